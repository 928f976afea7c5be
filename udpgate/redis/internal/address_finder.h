// Looks up the addresses of Redis for the thread of a Connection, and wakes
// that thread up.
#ifndef UDPGATE_REDIS_INTERNAL_ADDRESS_FINDER_H_
#define UDPGATE_REDIS_INTERNAL_ADDRESS_FINDER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/redis/redis_address_source.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace redis {
namespace internal {

// Threads: one, except `Wake`.
class AddressFinder {
 public:
  using Addresses = std::vector<SocketAddress>;

  // `source` may be null.
  AddressFinder(std::shared_ptr<HostLookup> lookup,
                std::shared_ptr<RedisAddressSource> source);

  // Makes the descriptor. ResourceExhausted if none is left.
  absl::Status Start();

  // Readable after `Wake` and after each lookup, until `ResetWakeup`.
  int wakeup_fd() const { return mailbox_->wakeup.get(); }
  void Wake();  // threads: any
  void ResetWakeup();

  // Looks up a valid `host:port`, or what the source names instead. The result
  // of an earlier lookup is ignored from now on.
  void Begin(const std::string& host_port, absl::Duration timeout);

  // The result of the last lookup, once.
  absl::optional<absl::StatusOr<Addresses>> Take();

  // What the last successful lookup that was taken was for: `host:port`.
  const std::string& target() const { return target_; }

  // True once after the source has named another address than `target`.
  bool TakeMove();

  RedisAddressSource* source() const { return source_.get(); }

 private:
  // Receives results on the thread of the HostLookup; may outlive the finder.
  struct Mailbox {
    udpgate::internal::UniqueFd wakeup;
    udpgate::internal::Mutex mutex;
    // The number of the current lookup; results of earlier ones are ignored.
    uint64_t awaited_number ABSL_GUARDED_BY(mutex) = 0;
    absl::optional<absl::StatusOr<Addresses>> found ABSL_GUARDED_BY(mutex);
    std::string target ABSL_GUARDED_BY(mutex);
    // By the source, since `TakeMove`. Empty: none.
    std::string named ABSL_GUARDED_BY(mutex);
  };

  static void LookUp(const std::shared_ptr<Mailbox>& mailbox,
                     HostLookup* lookup, uint64_t number,
                     const std::string& host_port, absl::Duration timeout);
  static void Deliver(const std::shared_ptr<Mailbox>& mailbox, uint64_t number,
                      const std::string& host_port,
                      absl::StatusOr<Addresses> found);

  const std::shared_ptr<HostLookup> lookup_;
  const std::shared_ptr<RedisAddressSource> source_;
  std::shared_ptr<const RedisAddressSource::Watcher> watcher_;
  udpgate::internal::SysCalls* const sys_calls_ =
      udpgate::internal::SysCalls::Real();
  const std::shared_ptr<Mailbox> mailbox_ = std::make_shared<Mailbox>();
  uint64_t lookup_number_ = 0;
  std::string target_;
};

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_ADDRESS_FINDER_H_
