// What the tests of HostLookup share.
#ifndef UDPGATE_DNS_HOST_LOOKUP_FIXTURE_H_
#define UDPGATE_DNS_HOST_LOOKUP_FIXTURE_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "testing/await.h"
#include "testing/simulated_clock.h"
#include "udpgate/dns/fake_dns_server.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {

inline constexpr absl::Duration kLong = absl::Minutes(1);

// One look-up; `code` and `ips` once it `is_done`.
class LookupResult {
 public:
  HostLookup::Callback Catch() {
    return [this](absl::StatusOr<std::vector<SocketAddress>> found) {
      internal::MutexLock lock(&mutex_);
      ++count_;
      found_ = std::move(found);
    };
  }
  int count() {
    internal::MutexLock lock(&mutex_);
    return count_;
  }
  bool is_done() { return count() > 0; }
  bool Await() {
    return AwaitTrue([this] { return is_done(); });
  }
  absl::Status status() {
    internal::MutexLock lock(&mutex_);
    return found_.status();
  }
  absl::StatusCode code() { return status().code(); }
  std::vector<std::string> ips() {
    internal::MutexLock lock(&mutex_);
    std::vector<std::string> ips;
    if (!found_.ok()) return {found_.status().ToString()};
    for (const SocketAddress& address : *found_) {
      EXPECT_EQ(address.port(), 0);
      ips.push_back(address.IpToString());
    }
    return ips;
  }

 private:
  internal::Mutex mutex_;
  int count_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::StatusOr<std::vector<SocketAddress>> found_ ABSL_GUARDED_BY(mutex_);
};

class HostLookupTest : public ::testing::Test {
 protected:
  HostLookupTest() {
    options_.dns_servers = dns_.address();
    // No query is repeated on a slow machine.
    options_.attempt_timeout = absl::Minutes(1);
    options_.attempts_max = 1;
    options_.clock = &clock_;
    // Independent of the routes of the machine.
    options_.has_route = [](const SocketAddress&) { return true; };
  }

  std::shared_ptr<HostLookup> Make() {
    absl::StatusOr<std::shared_ptr<HostLookup>> lookup =
        HostLookup::Create(options_);
    EXPECT_TRUE(lookup.ok()) << lookup.status();
    return *std::move(lookup);
  }

  static std::vector<std::string> Find(HostLookup* lookup,
                                       absl::string_view host) {
    LookupResult result;
    lookup->Lookup(host, kLong, result.Catch());
    EXPECT_TRUE(result.Await());
    return result.ips();
  }
  static absl::StatusCode FindError(HostLookup* lookup,
                                    absl::string_view host) {
    LookupResult result;
    lookup->Lookup(host, kLong, result.Catch());
    EXPECT_TRUE(result.Await());
    return result.code();
  }

  FakeDnsServer dns_;
  SimulatedClock clock_;
  HostLookupOptions options_;
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_DNS_HOST_LOOKUP_FIXTURE_H_
