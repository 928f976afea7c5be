// What must hold of a fleet of gateways that share a store of sessions.
#ifndef UDPGATE_TESTING_INTERNAL_SIMULATION_FLEET_MODEL_H_
#define UDPGATE_TESTING_INTERNAL_SIMULATION_FLEET_MODEL_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {
namespace simulation {

// Follows the simulation; keeps the first broken rule. Times are nanoseconds.
class FleetModel {
 public:
  template <typename... Texts>
  void Require(bool holds, const Texts&... texts) {
    if (!holds && broken.empty()) broken = absl::StrCat(texts...);
  }

  // A resolver has named this backend for the client.
  void Grant(int client, int backend, int64_t now) {
    grants_[{client, backend}] = now;
  }
  bool WasGranted(int client, int backend) const {
    return grants_.count({client, backend}) > 0;
  }
  // Whether that was after this event.
  bool WasGrantedAfter(int client, int backend, int64_t event) const {
    const auto found = grants_.find({client, backend});
    return found != grants_.end() && found->second >= event;
  }

  // All events so far. -1: all clients, all backends.
  struct Event {
    int client;
    int backend;
    int64_t time;

    bool Names(int other_client, int other_backend) const {
      return (client < 0 || client == other_client) &&
             (backend < 0 || backend == other_backend);
    }
  };
  std::vector<Event> events;

  std::string broken;

  // What all seeds have met.
  struct Coverage {
    std::map<std::string, int64_t> counts;
  };
  Coverage* coverage = nullptr;
  void Meet(const std::string& what, int64_t count = 1) {
    coverage->counts[what] += count;
  }

 private:
  std::map<std::pair<int, int>, int64_t> grants_;
};

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SIMULATION_FLEET_MODEL_H_
