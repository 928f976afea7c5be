#include "udpgate/redis/key_templates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "udpgate/socket_address.h"
#include "udpgate/stun/request_builder.h"

namespace udpgate {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> Fill(absl::string_view text,
                              const ResolveRequest& request) {
  const absl::StatusOr<KeyTemplates> keys = KeyTemplates::Parse(text);
  EXPECT_TRUE(keys.ok()) << keys.status();
  return keys.ok() ? keys->Fill(request) : std::vector<std::string>();
}

ResolveRequest From(absl::string_view client) {
  ResolveRequest request;
  request.client = *SocketAddress::Parse(client);
  request.listen_port = 19132;
  return request;
}

std::string BindingRequest(const std::string& username) {
  stun::BindingRequestOptions options;
  options.username = username;
  options.password = "a password of 22 bytes";
  return stun::BuildBindingRequest(options);
}

std::vector<std::string> FillFromDatagram(absl::string_view text,
                                          const std::string& datagram) {
  ResolveRequest request = From("1.2.3.4:5");
  request.first_datagram = datagram;
  return Fill(text, request);
}

TEST(KeyTemplatesTest, KeysWithoutPlaceholdersAreTheSameForAll) {
  EXPECT_TRUE(KeyTemplates::Parse("a b")->is_constant());
  EXPECT_TRUE(KeyTemplates::Parse("{{tag}}:a")->is_constant());
  EXPECT_FALSE(KeyTemplates::Parse("a {client_ip}")->is_constant());
  EXPECT_THAT(Fill(" a\t{{tag}}:b\n", ResolveRequest()),
              ElementsAre("a", "{tag}:b"));
}

TEST(KeyTemplatesTest, FillsInWhatIsKnownOfTheClient) {
  const std::string text =
      "ip:{client_ip} net:{client_net} at:{client_ip}/{client_port} "
      "{{{listen_port}}}";
  EXPECT_THAT(
      Fill(text, From("1.2.3.4:56")),
      ElementsAre("ip:1.2.3.4", "net:1.2.3.0/24", "at:1.2.3.4/56", "{19132}"));
  EXPECT_THAT(Fill(text, From("[2001:db8:1:2:3:4:5:6]:78")),
              ElementsAre("ip:2001:db8:1:2:3:4:5:6", "net:2001:db8:1:2::/64",
                          "at:2001:db8:1:2:3:4:5:6/78", "{19132}"));
}

TEST(KeyTemplatesTest, SkipsAKeyThatCannotBeFilled) {
  ResolveRequest join = From("1.2.3.4:56");
  join.reason = ResolveRequest::Reason::kJoin;
  join.listen_port = 0;
  EXPECT_THAT(Fill("a:{client_port} b:{listen_port} c:{stun_ufrag} "
                   "d:{prefix:1} e:{client_ip} f",
                   join),
              ElementsAre("e:1.2.3.4", "f"));
  EXPECT_THAT(Fill("{client_ip} {client_net} {client_port}", ResolveRequest()),
              IsEmpty());
}

TEST(KeyTemplatesTest, ReadsTheUfragOfTheReceiver) {
  EXPECT_THAT(FillFromDatagram("u:{stun_ufrag}", BindingRequest("aB+/:peer")),
              ElementsAre("u:aB+/"));
  const std::string longest(256, 'x');
  EXPECT_THAT(
      FillFromDatagram("{stun_ufrag}", BindingRequest(longest + ":peer")),
      ElementsAre(longest));
}

// Whatever a client sends, it cannot name the key of somebody else.
TEST(KeyTemplatesTest, TakesNoUfragThatIsNone) {
  for (const std::string& username :
       {std::string("abc:short"), std::string("no-colon"),
        std::string("a\r\nDEL x:y"), std::string("abcd\0:y", 7),
        std::string("ab cd:y"), std::string("ab{d}:y"),
        std::string("\xc3\xa4\xc3\xa4:y"), std::string(257, 'x') + ":y"}) {
    EXPECT_THAT(FillFromDatagram("{stun_ufrag}", BindingRequest(username)),
                IsEmpty())
        << username;
  }
  const std::string whole = BindingRequest("abcd:efgh");
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_THAT(FillFromDatagram("{stun_ufrag}", whole.substr(0, size)),
                IsEmpty())
        << size;
  }
  std::string response = whole;
  response[0] = '\x01';
  EXPECT_THAT(FillFromDatagram("{stun_ufrag}", response), IsEmpty());
  std::string other_cookie = whole;
  other_cookie[4] = '\x22';
  EXPECT_THAT(FillFromDatagram("{stun_ufrag}", other_cookie), IsEmpty());
}

TEST(KeyTemplatesTest, FillsInThePrefixAsHexadecimalDigits) {
  EXPECT_THAT(FillFromDatagram("{prefix:4}", std::string("\x00\r\n\xff*3", 6)),
              ElementsAre("000d0aff"));
  EXPECT_THAT(FillFromDatagram("{prefix:4}", "abc"), IsEmpty());
}

TEST(KeyTemplatesTest, SkipsAKeyThatIsTooLong) {
  const std::string longest = std::string(1000, 'k');
  EXPECT_THAT(FillFromDatagram(longest + "{prefix:12}", std::string(12, 'a')),
              ElementsAre(::testing::SizeIs(1024)));
  EXPECT_THAT(FillFromDatagram(longest + "{prefix:13} b", std::string(13, 'a')),
              ElementsAre("b"));
}

TEST(KeyTemplatesTest, SaysWhatIsWrongWithATemplate) {
  for (const auto& [text, problem] :
       std::vector<std::pair<std::string, std::string>>{
           {"", "there is no key"},
           {" \n", "there is no key"},
           {"{client}", "unknown is \"client\""},
           {"{}", "unknown is \"\""},
           {"a{client_ip", "an opening brace without a closing one"},
           {"client_ip}", "a closing brace without an opening one"},
           {"{prefix:0}", "{prefix:N} takes 1 to 64 bytes, not \"0\""},
           {"{prefix:65}", "not \"65\""},
           {"{prefix:+4}", "not \"+4\""},
           {"{prefix:}", "not \"\""},
           {"{a\x01}", "unknown is \"a\\x01\""},
           {"1 2 3 4 5 6 7 8 9", "there are more than 8 keys"},
           {std::string(1025, 'k'), "a key has at most 1024 bytes"}}) {
    const absl::Status status = KeyTemplates::Parse(text).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(problem)) << text;
  }
}

}  // namespace
}  // namespace udpgate
