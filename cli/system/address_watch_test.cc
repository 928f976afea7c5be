#include "cli/system/address_watch.h"

#include <atomic>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/internal/support/network_namespace.h"
#include "udpgate/clock.h"
#include "udpgate/fastpath/kernel_rights.h"

namespace udpgate {
namespace cli {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;

SocketAddress Address(absl::string_view ip) {
  return *SocketAddress::FromIpAndPort(ip, 7);
}

// Real netlink, in a network namespace with a pair of interfaces, d0 and d1.
class AddressWatchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto space = test::NetworkNamespace::Create();
    UDPGATE_NEEDS_RIGHTS(space.status());
    space_ = *std::move(space);
    space_->Command(
        "ip link set lo up; ip link add d0 type veth peer name d1;"
        "ip link set d0 up; ip link set d1 up");
    options_.required = {Address("10.1.0.1")};
    options_.on_change = [this](bool are_here, int64_t noticed_nanoseconds) {
      EXPECT_LE(noticed_nanoseconds, Clock::Monotonic()->NowNanoseconds());
      EXPECT_GT(noticed_nanoseconds, 0);
      is_reporting_ = true;
      may_report_.wait();
      std::lock_guard<std::mutex> lock(mutex_);
      reports_.push_back(are_here);
    };
  }

  void TearDown() override { PermitReports(); }

  void PermitReports() {
    if (!is_permitted_) report_permission_.set_value();
    is_permitted_ = true;
  }
  void Start() {
    space_->Run([&] {
      auto watch = AddressWatch::Start(options_);
      ASSERT_TRUE(watch.ok()) << watch.status();
      watch_ = *std::move(watch);
    });
  }
  std::vector<bool> reports() {
    std::lock_guard<std::mutex> lock(mutex_);
    return reports_;
  }
  bool AwaitReports(size_t count) {
    PermitReports();
    return test::AwaitTrue([&] { return reports().size() >= count; });
  }
  void Add(const std::string& address) {
    space_->Command(absl::StrCat("ip addr add ", address, " dev d0"));
  }
  void Remove(const std::string& address) {
    space_->Command(absl::StrCat("ip addr del ", address, " dev d0"));
  }

  std::unique_ptr<test::NetworkNamespace> space_;
  AddressWatchOptions options_;
  std::promise<void> report_permission_;
  std::shared_future<void> may_report_ =
      report_permission_.get_future().share();
  bool is_permitted_ = false;
  std::atomic<bool> is_reporting_{false};
  std::mutex mutex_;
  std::vector<bool> reports_;
  std::unique_ptr<AddressWatch> watch_;
};

TEST_F(AddressWatchTest, ReportsWhatHoldsAtTheStart) {
  Add("10.1.0.1/24");
  Start();
  ASSERT_TRUE(AwaitReports(1));
  EXPECT_THAT(reports(), ElementsAre(true));
}

TEST_F(AddressWatchTest, ReportsEachChangeOnce) {
  Start();
  ASSERT_TRUE(AwaitReports(1));
  Add("10.2.0.1/24");
  Add("10.1.0.1/24");
  ASSERT_TRUE(AwaitReports(2));
  Add("10.3.0.1/24");
  Remove("10.2.0.1/24");
  Remove("10.1.0.1/24");
  ASSERT_TRUE(AwaitReports(3));
  EXPECT_THAT(reports(), ElementsAre(false, true, false));
}

TEST_F(AddressWatchTest, WaitsForAllRequiredAddresses) {
  options_.required.push_back(Address("10.2.0.1"));
  Start();
  ASSERT_TRUE(AwaitReports(1));
  Add("10.1.0.1/24");
  Add("10.2.0.1/24");
  ASSERT_TRUE(AwaitReports(2));
  Remove("10.1.0.1/24");
  ASSERT_TRUE(AwaitReports(3));
  EXPECT_THAT(reports(), ElementsAre(false, true, false));
}

TEST_F(AddressWatchTest, WaitsForAwaitedAddressesForAWhile) {
  options_.awaited = {Address("10.2.0.1")};
  options_.patience = absl::Hours(1);
  Start();
  ASSERT_TRUE(AwaitReports(1));
  Add("10.1.0.1/24");
  Add("10.2.0.1/24");
  ASSERT_TRUE(AwaitReports(2));
  // It alone changes nothing.
  Remove("10.2.0.1/24");
  Remove("10.1.0.1/24");
  ASSERT_TRUE(AwaitReports(3));
  EXPECT_THAT(reports(), ElementsAre(false, true, false));
}

TEST_F(AddressWatchTest, AnAwaitedAddressThatDoesNotComeDelaysALittle) {
  options_.awaited = {Address("10.2.0.1")};
  options_.patience = absl::Milliseconds(50);
  Start();
  ASSERT_TRUE(AwaitReports(1));
  const absl::Time before = absl::Now();
  Add("10.1.0.1/24");
  ASSERT_TRUE(AwaitReports(2));
  EXPECT_GE(absl::Now() - before, absl::Milliseconds(50));
  EXPECT_THAT(reports(), ElementsAre(false, true));
}

TEST_F(AddressWatchTest, AnIpv6AddressCountsOnceItIsUsable) {
  options_.required = {Address("2001:db8::1")};
  Start();
  ASSERT_TRUE(AwaitReports(1));
  // As the kernel says itself, before and after the detection of duplicates.
  Add("2001:db8::1/64");
  ASSERT_TRUE(AwaitReports(2));
  EXPECT_EQ(space_->Output("ip -6 addr show dev d0 to 2001:db8::1 tentative"),
            "");
  Remove("2001:db8::1/64");
  ASSERT_TRUE(AwaitReports(3));
  EXPECT_THAT(reports(), ElementsAre(false, true, false));
}

TEST_F(AddressWatchTest, ADuplicateIpv6AddressIsNotHere) {
  auto other = test::NetworkNamespace::Create();
  ASSERT_TRUE(other.ok()) << other.status();
  test::NetworkNamespace::Connect(*space_, "e0", **other, "e1");
  (*other)->Command("ip addr add 2001:db8::1/64 dev e1 nodad");
  space_->Command("ip addr add 2001:db8::1/64 dev e0");
  ASSERT_TRUE(test::AwaitTrue([this] {
    return !space_->Output("ip -6 addr show dev e0 dadfailed").empty();
  }));
  options_.required = {Address("2001:db8::1")};
  Start();
  ASSERT_TRUE(AwaitReports(1));
  EXPECT_THAT(reports(), ElementsAre(false));
}

TEST_F(AddressWatchTest, ALinkLocalAddressBelongsToItsInterface) {
  // Only in the namespace does the name of the interface mean something.
  space_->Run(
      [&] { options_.required = {*SocketAddress::Parse("[fe80::7%d0]:1")}; });
  Start();
  ASSERT_TRUE(AwaitReports(1));
  space_->Command("ip addr add fe80::7/64 dev d1 nodad");
  space_->Command("ip addr add fe80::7/64 dev d0 nodad");
  ASSERT_TRUE(AwaitReports(2));
  space_->Command("ip addr del fe80::7/64 dev d0");
  ASSERT_TRUE(AwaitReports(3));
  EXPECT_THAT(reports(), ElementsAre(false, true, false));
}

// The socket's buffer overflows while the watch reports, and the last change is
// among what is lost.
TEST_F(AddressWatchTest, NoticesAChangeWhoseMessageWasLost) {
  Start();
  ASSERT_TRUE(test::AwaitTrue([this] { return is_reporting_.load(); }));
  space_->Command(
      "for i in $(seq 1 250); do for j in 1 2 3 4 5 6 7 8; do"
      " echo addr add 10.9.$i.$j/32 dev d0; done; done | ip -batch -");
  // Netlink sockets: the column of drops (/proc/net/netlink, proc(5)).
  EXPECT_THAT(space_->Output("awk '$2 == 0 && $9 > 0' /proc/net/netlink"),
              Not(IsEmpty()));
  Add("10.1.0.1/24");
  ASSERT_TRUE(AwaitReports(1));
  EXPECT_TRUE(test::AwaitTrue([this]() -> bool { return reports().back(); }));
}

TEST_F(AddressWatchTest, EndsWhileItWaits) {
  options_.awaited = {Address("10.2.0.1")};
  options_.patience = absl::Hours(1);
  Add("10.1.0.1/24");
  Start();
  watch_.reset();
  EXPECT_THAT(reports(), IsEmpty());
}

}  // namespace
}  // namespace cli
}  // namespace udpgate
