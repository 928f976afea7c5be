// Requests that are cut off, have wrong lengths, or attributes twice.
#include <cstddef>
#include <string>

#include "gtest/gtest.h"
#include "udpgate/stun/binding_request.h"
#include "udpgate/stun/internal/wire.h"
#include "udpgate/stun/request_builder.h"

namespace udpgate {
namespace stun {
namespace {

BindingRequestOptions Options() {
  BindingRequestOptions options;
  options.username = "answer:offer";
  options.password = "0123456789abcdefghijkl";
  return options;
}

// Without integrity and FINGERPRINT, so that attributes can follow.
std::string OpenRequest() {
  BindingRequestOptions options = Options();
  options.has_integrity_sha1 = false;
  options.has_fingerprint = false;
  return BuildBindingRequest(options);
}

bool IsRight(const std::string& datagram) {
  const absl::optional<BindingRequest> request = ParseBindingRequest(datagram);
  return request.has_value() &&
         VerifyIntegrity(datagram, *request, Options().password);
}

void SetLength(size_t length, std::string* datagram) {
  internal::Write16(static_cast<uint16_t>(length),
                    &(*datagram)[internal::kLengthOffset]);
}

TEST(MalformedRequestTest, IsRefusedIfCutOffAnywhere) {
  BindingRequestOptions options = Options();
  options.has_integrity_sha256 = true;
  const std::string whole = BuildBindingRequest(options);
  ASSERT_TRUE(IsRight(whole));
  for (size_t size = 0; size < whole.size(); ++size) {
    // In memory of its own, so that the address sanitizer finds a read beyond.
    const std::string cut(whole, 0, size);
    EXPECT_FALSE(ParseBindingRequest(cut).has_value()) << size;
    EXPECT_EQ(IsStun(cut), size >= 8) << size;
  }
}

// Now with the length field that fits what is left.
TEST(MalformedRequestTest, IsNotProofIfCutOffWithTheRightLength) {
  const std::string whole = BuildBindingRequest(Options());
  for (size_t size = 20; size < whole.size(); ++size) {
    std::string cut(whole, 0, size);
    SetLength(size - 20, &cut);
    // Without FINGERPRINT a request is as good.
    EXPECT_EQ(IsRight(cut), size == whole.size() - 8) << size;
  }
}

TEST(MalformedRequestTest, IsRefusedIfItsLengthIsWrong) {
  const std::string right = BuildBindingRequest(Options());
  for (size_t length = 0; length < 0x10000; ++length) {
    if (length == right.size() - 20) continue;
    std::string wrong = right;
    SetLength(length, &wrong);
    ASSERT_FALSE(ParseBindingRequest(wrong).has_value()) << length;
  }
  EXPECT_FALSE(ParseBindingRequest(right + "abcd").has_value());
}

TEST(MalformedRequestTest, IsNotProofIfAnAttributeHasAnotherLength) {
  const std::string right = BuildBindingRequest(Options());
  size_t offset = 20;
  while (offset < right.size()) {
    const uint16_t bytes = internal::Read16(right.data() + offset + 2);
    for (const size_t length : {0, 1, bytes - 1, bytes + 1, bytes + 4, 60, 200,
                                0x7fff, 0xfffc, 0xffff}) {
      if (length == bytes) continue;
      std::string wrong = right;
      internal::Write16(static_cast<uint16_t>(length), &wrong[offset + 2]);
      EXPECT_FALSE(IsRight(wrong)) << offset << " " << length;
    }
    offset += 4 + internal::Padded(bytes);
  }
}

TEST(MalformedRequestTest, CountsTheFirstOfAnAttributeThatIsThereTwice) {
  std::string datagram = OpenRequest();
  AppendAttribute(internal::kUsername, "other:offer", &datagram);
  AppendAttribute(internal::kPriority, "\1\2\3\4", &datagram);
  AppendIntegritySha1(Options().password, &datagram);
  const absl::optional<BindingRequest> request = ParseBindingRequest(datagram);
  ASSERT_TRUE(request.has_value());
  EXPECT_EQ(request->local_ufrag, "answer");
  EXPECT_EQ(request->priority, 0x6e0001ffu);
  EXPECT_TRUE(IsRight(datagram));
}

TEST(MalformedRequestTest, CountsTheFirstIntegrityThatIsThereTwice) {
  std::string wrong_first = OpenRequest();
  AppendIntegritySha1("wrong", &wrong_first);
  AppendIntegritySha1(Options().password, &wrong_first);
  EXPECT_FALSE(IsRight(wrong_first));
  std::string right_first = OpenRequest();
  AppendIntegritySha1(Options().password, &right_first);
  AppendIntegritySha1("wrong", &right_first);
  EXPECT_TRUE(IsRight(right_first));
  std::string sha256 = OpenRequest();
  AppendIntegritySha256("wrong", 32, &sha256);
  AppendIntegritySha256(Options().password, 32, &sha256);
  EXPECT_FALSE(IsRight(sha256));
}

TEST(MalformedRequestTest, IgnoresAttributesBehindTheIntegrity) {
  BindingRequestOptions options = Options();
  options.username = "";
  options.priority = absl::nullopt;
  options.has_fingerprint = false;
  std::string datagram = BuildBindingRequest(options);
  AppendAttribute(internal::kUsername, "answer:offer", &datagram);
  AppendAttribute(internal::kPriority, "\1\2\3\4", &datagram);
  AppendFingerprint(&datagram);
  const absl::optional<BindingRequest> request = ParseBindingRequest(datagram);
  ASSERT_TRUE(request.has_value());
  EXPECT_EQ(request->username, "");
  EXPECT_FALSE(request->priority.has_value());
  EXPECT_TRUE(IsRight(datagram));
}

// RFC 8489 section 14.6.
TEST(MalformedRequestTest, IgnoresSha1BehindSha256) {
  std::string datagram = OpenRequest();
  AppendIntegritySha256(Options().password, 32, &datagram);
  AppendIntegritySha1("wrong", &datagram);
  EXPECT_TRUE(IsRight(datagram));
}

TEST(MalformedRequestTest, IsRefusedIfItsFingerprintIsWrongOrNotTheLast) {
  std::string wrong = BuildBindingRequest(Options());
  wrong.back() = static_cast<char>(wrong.back() ^ 1);
  EXPECT_FALSE(ParseBindingRequest(wrong).has_value());
  std::string followed = BuildBindingRequest(Options());
  AppendAttribute(internal::kUseCandidate, "", &followed);
  EXPECT_FALSE(ParseBindingRequest(followed).has_value());
  std::string twice = BuildBindingRequest(Options());
  AppendFingerprint(&twice);
  EXPECT_FALSE(ParseBindingRequest(twice).has_value());
  std::string of_five_bytes = OpenRequest();
  AppendAttribute(internal::kFingerprint, "12345", &of_five_bytes);
  EXPECT_FALSE(ParseBindingRequest(of_five_bytes).has_value());
}

TEST(MalformedRequestTest, IsRefusedIfItsUserNameIsTooLong) {
  BindingRequestOptions options = Options();
  options.username = std::string(256, 'a') + ":" + std::string(256, 'b');
  EXPECT_TRUE(IsRight(BuildBindingRequest(options)));
  options.username += "c";
  EXPECT_FALSE(ParseBindingRequest(BuildBindingRequest(options)).has_value());
}

}  // namespace
}  // namespace stun
}  // namespace udpgate
