// A DNS server on loopback whose responses and their timing a test controls.
//
//   udpgate::test::FakeDnsServer dns;
//   dns.Set("lobby", {"10.0.0.5", "fd00::5"});
//   udpgate::HostLookupOptions options;
//   options.dns_servers = dns.address();
#ifndef UDPGATE_DNS_FAKE_DNS_SERVER_H_
#define UDPGATE_DNS_FAKE_DNS_SERVER_H_

#include <netinet/in.h>

#include <cstdint>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/internal/util/unique_fd.h"

namespace udpgate {
namespace test {

// Responds to A and AAAA queries over UDP (RFC 1035); names that were not set
// do not exist. Aborts the test if it cannot listen. Threads: any.
class FakeDnsServer {
 public:
  // Listens on `port`; 0: on a free one.
  explicit FakeDnsServer(uint16_t port = 0);
  ~FakeDnsServer();
  FakeDnsServer(const FakeDnsServer&) = delete;
  FakeDnsServer& operator=(const FakeDnsServer&) = delete;

  // `127.0.0.1:port`, as `HostLookupOptions::dns_servers` takes it.
  const std::string& address() const { return address_; }
  uint16_t port() const { return port_; }

  // `name` in lower case has these addresses; none: it exists without any.
  void Set(absl::string_view name, std::vector<std::string> ips);
  // Every response has this code (RFC 1035, section 4.1.1) from now on; 0: as
  // set.
  void FailWith(int response_code);

  // Holds all queries until `Release` responds to them.
  void Hold();
  void Release();

  // Queries for addresses of this family, AF_INET or AF_INET6, get no response
  // from now on; 0: all get one.
  void Swallow(int family);
  // Queries for addresses of this family get `response_code`, whatever was set.
  void FailFamilyWith(int family, int response_code);

  // Queries for IPv4 addresses of `name` so far, including repeated ones.
  int query_count(absl::string_view name) const;
  // Responses about `name` so far, for either family.
  int answer_count(absl::string_view name) const;

 private:
  struct Query {
    sockaddr_in from;
    std::string bytes;
  };

  void Run();
  void Answer(const Query& query) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::string MakeAnswer(const std::string& query, absl::string_view name,
                         size_t question_end) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  internal::UniqueFd socket_;
  internal::UniqueFd stop_;
  std::string address_;
  uint16_t port_ = 0;
  mutable internal::Mutex mutex_;
  std::map<std::string, std::vector<std::string>> ips_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, int> query_counts_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, int> answer_counts_ ABSL_GUARDED_BY(mutex_);
  std::vector<Query> held_ ABSL_GUARDED_BY(mutex_);
  bool is_holding_ ABSL_GUARDED_BY(mutex_) = false;
  int response_code_ ABSL_GUARDED_BY(mutex_) = 0;
  // Query types (RFC 1035, section 3.2.2), 0: none.
  int swallowed_type_ ABSL_GUARDED_BY(mutex_) = 0;
  int failing_type_ ABSL_GUARDED_BY(mutex_) = 0;
  int failing_type_code_ ABSL_GUARDED_BY(mutex_) = 0;
  std::thread thread_;
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_DNS_FAKE_DNS_SERVER_H_
