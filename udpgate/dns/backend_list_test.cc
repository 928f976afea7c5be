#include "udpgate/dns/backend_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "testing/await.h"
#include "udpgate/dns/fake_dns_server.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/internal/util/mutex.h"

namespace udpgate {
namespace {

using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

using List = absl::StatusOr<std::shared_ptr<const BackendList>>;

class BackendListTest : public ::testing::Test {
 protected:
  BackendListTest() {
    HostLookupOptions options;
    options.dns_servers = dns_.address();
    lookup_ = *HostLookup::Create(options);
  }

  List Resolve(absl::string_view text) {
    internal::Mutex mutex;
    absl::optional<List> result;
    ResolveBackendList(text, absl::Minutes(1), lookup_.get(), [&](List list) {
      internal::MutexLock lock(&mutex);
      result = std::move(list);
    });
    EXPECT_TRUE(test::AwaitTrue([&] {
      internal::MutexLock lock(&mutex);
      return result.has_value();
    }));
    internal::MutexLock lock(&mutex);
    return *result;
  }

  // By client, the label of its backend.
  std::map<int, std::string> Spread(absl::string_view text, int clients) {
    std::map<int, std::string> labels;
    const List list = Resolve(text);
    EXPECT_TRUE(list.ok()) << list.status();
    for (int i = 0; i < clients; ++i) {
      labels[i] = (*list)->Choose(Client(i)).label;
    }
    return labels;
  }
  static SocketAddress Client(int i, int port = 1000) {
    return *SocketAddress::Parse(
        absl::StrCat("10.1.", i / 256, ".", i % 256, ":", port));
  }

  test::FakeDnsServer dns_;
  std::shared_ptr<HostLookup> lookup_;
};

int CountOf(const std::map<int, std::string>& labels, absl::string_view label) {
  int count = 0;
  for (const auto& [client, chosen] : labels) count += chosen == label ? 1 : 0;
  return count;
}

TEST_F(BackendListTest, OneBackendIsAsBefore) {
  dns_.Set("lobby.test", {"10.0.0.5", "10.0.0.6"});
  const List list = Resolve(" lobby.test:1\n");
  ASSERT_TRUE(list.ok()) << list.status();
  EXPECT_EQ((*list)->text(), "lobby.test:1");
  const ResolveResult result = (*list)->Choose(Client(1));
  EXPECT_EQ(result.backend.ToString(), "10.0.0.5:1");
  EXPECT_EQ(result.label, "lobby.test:1");
  EXPECT_EQ(result.alternatives.size(), 1u);
  EXPECT_TRUE(result.alternative_labels.empty());
}

TEST_F(BackendListTest, AnIpAddressAlwaysGetsTheSameBackend) {
  const auto labels = Spread("10.0.0.5:1 10.0.0.6:1 10.0.0.7:1", 3000);
  // Whatever its port is, and whatever the order and the gateway are.
  const List other = Resolve("10.0.0.7:1\t10.0.0.5:1 \n10.0.0.6:1");
  for (const auto& [client, label] : labels) {
    EXPECT_EQ((*other)->Choose(Client(client, 2000)).label, label);
  }
  for (const char* label : {"10.0.0.5:1", "10.0.0.6:1", "10.0.0.7:1"}) {
    EXPECT_NEAR(CountOf(labels, label), 1000, 150) << label;
  }
  // Gateways of different versions choose alike.
  const auto label_of = [&](absl::string_view client) {
    return (*other)->Choose(*SocketAddress::Parse(client)).label;
  };
  EXPECT_EQ(label_of("203.0.113.7:1"), "10.0.0.7:1");
  EXPECT_EQ(label_of("203.0.113.8:1"), "10.0.0.6:1");
  EXPECT_EQ(label_of("192.0.2.1:1"), "10.0.0.5:1");
}

TEST_F(BackendListTest, AWeightIsAShare) {
  const auto labels = Spread("10.0.0.5:1 10.0.0.6:1*3", 4000);
  EXPECT_NEAR(CountOf(labels, "10.0.0.6:1"), 3000, 150);
}

TEST_F(BackendListTest, OnlyTheClientsOfABackendThatLeavesMove) {
  const auto before = Spread("10.0.0.5:1 10.0.0.6:1 10.0.0.7:1*2", 2000);
  const auto after = Spread("10.0.0.5:1 10.0.0.7:1*2", 2000);
  for (const auto& [client, label] : before) {
    if (label == "10.0.0.6:1") continue;
    EXPECT_EQ(after.at(client), label);
  }
}

TEST_F(BackendListTest, TheOthersFollowAsAlternatives) {
  dns_.Set("lobby.test", {"10.0.0.5", "10.0.0.6"});
  const List list = Resolve("lobby.test:1 10.0.0.7:1 10.0.0.8:1");
  for (int client = 0; client < 20; ++client) {
    const ResolveResult result = (*list)->Choose(Client(client));
    ASSERT_EQ(result.alternatives.size(), 3u);
    ASSERT_EQ(result.alternative_labels.size(), 3u);
    std::map<std::string, std::string> labels = {
        {result.backend.ToString(), result.label}};
    for (size_t i = 0; i < 3; ++i) {
      labels[result.alternatives[i].ToString()] = result.alternative_labels[i];
    }
    EXPECT_THAT(labels, UnorderedElementsAre(
                            std::make_pair("10.0.0.5:1", "lobby.test:1"),
                            std::make_pair("10.0.0.6:1", "lobby.test:1"),
                            std::make_pair("10.0.0.7:1", "10.0.0.7:1"),
                            std::make_pair("10.0.0.8:1", "10.0.0.8:1")));
  }
}

TEST_F(BackendListTest, LeavesOutANameThatDoesNotExist) {
  const List list = Resolve("missing.test:1*1000 10.0.0.7:1");
  ASSERT_TRUE(list.ok()) << list.status();
  EXPECT_EQ((*list)->Choose(Client(1)).label, "10.0.0.7:1");
  EXPECT_EQ((*list)->text(), "missing.test:1*1000 10.0.0.7:1");
  EXPECT_TRUE(absl::IsNotFound(Resolve("missing.test:1 none.test:2").status()));
}

TEST_F(BackendListTest, RefusesWhatIsNoList) {
  std::string too_many;
  for (int i = 1; i <= 33; ++i) absl::StrAppend(&too_many, " 10.0.0.1:", i);
  for (const auto& [text, problem] :
       std::vector<std::pair<std::string, std::string>>{
           {"", ""},
           {"1.2.3.4:5 x", ""},
           {"1.2.3.4:5*0", "the weight of a backend is not 1 to 1000"},
           {"1.2.3.4:5*1001", "the weight"},
           {"1.2.3.4:5*-1 1.2.3.4:6", "the weight"},
           {"1.2.3.4:5*", "the weight"},
           {"1.2.3.4:5*1*2", ""},
           {"*2", ""},
           {"1.2.3.4:5 1.2.3.4:5*2", "backend 1.2.3.4:5 is named twice"},
           {too_many, "there are more than 32 backends"}}) {
    const List list = Resolve(text);
    EXPECT_TRUE(absl::IsInvalidArgument(list.status())) << text;
    EXPECT_THAT(std::string(list.status().message()), HasSubstr(problem));
  }
}

}  // namespace
}  // namespace udpgate
