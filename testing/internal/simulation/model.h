// What must hold: the clients, sessions and resolutions as they should be.
#ifndef UDPGATE_TESTING_INTERNAL_SIMULATION_MODEL_H_
#define UDPGATE_TESTING_INTERNAL_SIMULATION_MODEL_H_

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "udpgate/backend_resolver.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {
namespace simulation {

// An index, a descriptor or a time that there is not.
constexpr int kNone = -1;

struct ClientSends {  // one datagram of a client
  uint32_t bytes;
  uint64_t read_event = 0;  // 0: not read yet
  bool is_refused = false;  // by a full queue
  bool is_sent = false;
  bool is_lost = false;     // by an error of the send that was its own
  int errors = 0;           // of sends that began with it
  bool is_refusal = false;  // one of them
};

struct ModelClient {
  SocketAddress address;
  SocketAddress gateway;  // where it sends to
  bool is_denied = false;
  std::vector<ClientSends> datagrams;
  uint32_t next_sent = 0;     // the next one to leave is no older
  uint32_t next_checked = 0;  // the fate of those before is known
  int session = kNone;        // the live one
  int open_disconnects = 0;   // that may not have been handled yet
  int disconnects = 0;
};

// Also what is known of a session that is restored, which has no resolution.
struct Resolution {
  int session;
  SocketAddress backend;  // no other resolution has it
  BackendResolver::Callback done;
  bool has_result = false;
  bool is_good = false;
  bool is_proven = false;  // see ResolveResult::is_client_proven
  std::shared_ptr<SessionTag> tag = nullptr;  // of the result
  bool is_stale = false;  // a disconnect came before the result
  // A disconnect came after the result: the session is resolved again, or is
  // opened and then ended.
  bool is_contested = false;
  int restored_client = kNone;  // of a restored session, which is none at first
};

struct Reply {
  enum Fate { kUnread, kOwed, kDone };
  uint32_t bytes;
  Fate fate = kUnread;
  int errors = 0;  // of sends that began with it
};

// Consecutive refusals, as far as they are visible from outside: errors that
// are met together count once, and the gateway decides which ones are together.
struct Refusals {
  int at_least = 0;
  int at_most = 0;
  uint64_t counted_episode = 0;  // the last one that counts

  void Clear() { at_least = at_most = 0; }
};

struct ModelSession {
  int client = kNone;
  uint32_t first_datagram = 0;
  int64_t created_nanoseconds = 0;
  int64_t deadline_nanoseconds = 0;
  int resolution = kNone;  // the latest
  bool is_live = true;
  bool must_end = false;       // a disconnect was posted
  bool is_superseded = false;  // another gateway has it
  bool is_restored = false;
  bool may_move = false;  // a result says that its client has another address
  // Once it has a backend:
  int fd = kNone;
  SocketAddress relay;
  SocketAddress backend;
  std::shared_ptr<SessionTag> tag;  // null also once it was given to another
  uint64_t active_event = 0;
  int64_t last_active_nanoseconds = 0;
  int64_t client_active_nanoseconds = 0;
  // The client's first datagram after the last reply; kNone: none.
  int64_t unanswered_since_nanoseconds = kNone;
  Refusals refusals;
  int client_refusals = 0;  // of its client's host, and none sent since
  // Where its last send has met an error: the episode, and the datagram.
  uint64_t failed_episode = 0;
  uint32_t failed_datagram = 0;
  uint32_t network_epoch = 0;  // at its last send
  uint64_t reopened_episode = 0;
  uint64_t unread_episode = 0;  // when the oldest unread reply came
  bool is_mute = false;         // its backend
  int proofs = 0;
  bool has_unanswered_reply = false;
  int64_t first_proof_nanoseconds = 0;
  bool is_confirmed = false;
  uint64_t client_bytes = 0;
  int64_t reply_bytes = 0;
  int64_t replies_beyond_limit = 0;
  std::vector<Reply> replies;
  uint32_t next_reply = 0;

  bool is_active() const { return is_live && fd != kNone; }
};

// What all seeds together must have met, or the test proves little.
struct Coverage {
  ProxyStats stats;
  int64_t resolutions_repeated = 0;
  int64_t results_repeated = 0;
  int64_t results_late = 0;
  int64_t sends_failed = 0;
  int64_t sessions_confirmed = 0;
  int64_t replies_beyond_limit = 0;
  int64_t sessions_settled_paused = 0;
  std::array<int64_t, 5> restore_outcomes{};  // RestoredSession::Outcome
};

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SIMULATION_MODEL_H_
