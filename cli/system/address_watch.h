// Tells when this machine gets addresses and loses them, for example those that
// VRRP moves between two hosts.
#ifndef UDPGATE_CLI_SYSTEM_ADDRESS_WATCH_H_
#define UDPGATE_CLI_SYSTEM_ADDRESS_WATCH_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cli/system/address_table.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace cli {

struct AddressWatchOptions {
  // All of them must be here.
  std::vector<SocketAddress> required;
  // These are waited for, too, but no longer than `patience` after the required
  // ones: a router daemon adds its addresses one after the other. If one of
  // them goes, nothing changes.
  std::vector<SocketAddress> awaited;
  absl::Duration patience = absl::Milliseconds(200);
  // Called first with what holds at the start, and then when it changes.
  // `noticed_nanoseconds` is when the kernel's message was read, by
  // Clock::Monotonic. It may take its time: only the latest state is reported
  // afterwards. Threads: one of the watch.
  std::function<void(bool are_here, int64_t noticed_nanoseconds)> on_change;
};

// Threads: any one at a time. Ownership: exclusive.
class AddressWatch {
 public:
  // Starts the watch in the network namespace of the calling thread. Errors:
  // what the system says of a netlink socket.
  static absl::StatusOr<std::unique_ptr<AddressWatch>> Start(
      AddressWatchOptions options);
  // Returns after a running `on_change` has returned.
  ~AddressWatch();
  AddressWatch(const AddressWatch&) = delete;
  AddressWatch& operator=(const AddressWatch&) = delete;

 private:
  static constexpr int64_t kNever = INT64_MAX;

  AddressWatch(AddressWatchOptions options, int netlink_fd, int stop_fd);

  void Run();
  // Waits until the socket is readable, for at most `timeout_milliseconds`; -1:
  // for ever. False if the watch is to stop.
  bool Wait(int timeout_milliseconds) const;
  // Reads all messages that are there.
  void Read();
  void Request();
  bool HasAll(const std::vector<SocketAddress>& addresses) const;
  // Reports what holds now, if it differs. Returns how long to wait at most, as
  // for `Wait`.
  int Report();

  const AddressWatchOptions options_;
  const int netlink_fd_;
  const int stop_fd_;  // eventfd(2); readable: stop

  // Of the thread.
  AddressTable table_;
  bool has_reported_ = false;
  bool are_here_ = false;            // as last reported
  int64_t noticed_nanoseconds_ = 0;  // of the last message
  int64_t required_since_nanoseconds_ = kNever;

  std::thread thread_;
};

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_SYSTEM_ADDRESS_WATCH_H_
