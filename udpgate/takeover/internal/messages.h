// What two gates say to each other in a take-over: messages of MessagePack,
// each a map with its `type`. README.md lists them.
//
// Everything has a name: what a reader does not know it leaves out, and what it
// misses keeps its default. So a gate and its successor need not be of the same
// version; `kVersion` goes up only when names are not enough.
#ifndef UDPGATE_TAKEOVER_INTERNAL_MESSAGES_H_
#define UDPGATE_TAKEOVER_INTERNAL_MESSAGES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "nlohmann/json.hpp"
#include "udpgate/internal/handover.h"
#include "udpgate/socket_address.h"
#include "udpgate/takeover/internal/channel.h"

namespace udpgate {
namespace takeover {
namespace internal {

inline constexpr int64_t kVersion = 1;

// Before the names of the flow offload's descriptors, among those of sockets.
inline constexpr absl::string_view kFlowPrefix = "flows/";

// A map with this type and nothing else yet.
nlohmann::json NewMessage(absl::string_view type);

std::vector<uint8_t> Encode(const nlohmann::json& message);

// InvalidArgument where it is no message; where it is an error that the other
// process reports, that one as Aborted. Allocates no more than some hundred
// times the bytes.
absl::StatusOr<nlohmann::json> Decode(absl::Span<const uint8_t> bytes);

// Sends it, and receives one that must be of this type.
absl::Status SendMessage(const nlohmann::json& message, Channel* channel,
                         absl::Span<const int> descriptors = {});
// Tells the other process why this one gives up, as well as it can.
void SendError(const absl::Status& status, Channel* channel);
// Sends it and, as a record of its own, rows of numbers in this machine's byte
// order: both processes are on it. MessagePack's reader takes a byte at a time,
// which would lengthen the pause. `row_bytes` of the message says how long they
// are. `rows` is not empty.
absl::Status SendRows(nlohmann::json message, absl::Span<const uint8_t> rows,
                      Channel* channel);
struct Incoming {
  std::string type;
  nlohmann::json fields;
  std::vector<udpgate::internal::UniqueFd> descriptors;
  std::vector<uint8_t> rows;
};
absl::StatusOr<Incoming> ReceiveMessage(Channel* channel);
absl::StatusOr<Incoming> ReceiveMessage(absl::string_view type,
                                        Channel* channel);

// OK where the other process speaks this version.
absl::Status CheckVersion(const nlohmann::json& message);

// A number of a message; InvalidArgument where it is none or not there.
absl::StatusOr<uint64_t> ReadNumber(const nlohmann::json& message,
                                    const char* name);

// The position of each id in a list. Ids are looked up in nearly the same
// order in which they were added, so that the guess "the one after the last"
// saves nearly all look-ups in the map, whose cache misses would lengthen the
// pause.
class IndexById {
 public:
  static constexpr size_t kNone = SIZE_MAX;

  // Whether `id` was new; it has the position `size()` then.
  bool Add(uint64_t id) {
    if (!index_by_id_.emplace(id, ids_.size()).second) return false;
    ids_.push_back(id);
    return true;
  }
  size_t Find(uint64_t id) {
    if (next_ >= ids_.size() || ids_[next_] != id) {
      const auto found = index_by_id_.find(id);
      if (found == index_by_id_.end()) return kNone;
      next_ = found->second;
    }
    return next_++;
  }
  size_t size() const { return ids_.size(); }

 private:
  std::vector<uint64_t> ids_;
  absl::flat_hash_map<uint64_t, size_t> index_by_id_;
  size_t next_ = 0;
};

// What the other process was told of before the pause: of each session its
// id, its socket's address, and the one field that changes and is no number.
class KnownSessions {
 public:
  // What the other process needs of a session.
  enum class Need {
    kAll,      // it does not know the session, or not its socket
    kChanges,  // what changes while the session is served
    kRow,      // the same, as numbers alone
  };

  // `reads_rows`: it reads rows. An older version does not.
  void set_reads_rows(bool reads_rows) { reads_rows_ = reads_rows; }
  bool reads_rows() const { return reads_rows_; }
  void Add(const udpgate::internal::HandedSession& session) {
    if (index_.Add(session.id))
      known_.push_back({session.local, session.relay});
  }
  Need NeedOf(const udpgate::internal::HandedSession& session) {
    const size_t index = index_.Find(session.id);
    if (index == IndexById::kNone || known_[index].relay != session.relay) {
      return Need::kAll;
    }
    return reads_rows_ && known_[index].local == session.local ? Need::kRow
                                                               : Need::kChanges;
  }

 private:
  struct Known {
    SocketAddress local;
    SocketAddress relay;
  };
  IndexById index_;
  std::vector<Known> known_;
  bool reads_rows_ = false;
};

// Sends sessions in as few messages as they need: of those that the other
// process knows, what changes while their gate serves, packed where it reads
// that; of the others all, with their sockets.
absl::Status SendSessions(
    absl::Span<const udpgate::internal::HandedSession> sessions,
    KnownSessions* known, Channel* channel);
// Sends a gate, `state` last, by which the other process knows that it has
// everything.
absl::Status SendGate(const udpgate::internal::HandedGate& gate,
                      KnownSessions* known, Channel* channel);

// What one host program tells the other, in as few messages as it needs;
// where it is too long, that there is nothing.
inline constexpr size_t kNotesBytesMax = 4 << 20;
absl::Status SendNotes(absl::string_view notes, Channel* channel);
// Reads all of it; another type of message is left out.
absl::StatusOr<std::string> ReceiveNotes(Channel* channel);

// Collects what comes. Threads: one.
class GateReader {
 public:
  // From `sessions`, `changes`, `held`, `quarantined` or `state`; another
  // type is left out. InvalidArgument says what is wrong.
  absl::Status Read(Incoming message);
  // What was read of sessions so far; whoever takes their sockets leaves the
  // rest.
  absl::Span<udpgate::internal::HandedSession> sessions() {
    return absl::MakeSpan(sessions_);
  }
  // Sessions that were read before must be read again to count: the others
  // have ended since.
  void BeginState();
  // `state` was read.
  bool has_state() const { return has_state_; }
  // Sessions that came for the first time since BeginState.
  int64_t late_count() const { return late_count_; }
  // All that came since BeginState. InvalidArgument where some is missing.
  absl::StatusOr<udpgate::internal::HandedGate> Take();

 private:
  absl::Status ReadSessions(Incoming message);
  absl::Status ReadChanges(const Incoming& message);
  absl::Status ReadHeld(const nlohmann::json& message);
  absl::Status ReadQuarantined(const Incoming& message);
  absl::Status ReadState(const nlohmann::json& message);

  std::vector<udpgate::internal::HandedSession> sessions_;
  // Of each: whether its socket has come, and whether it counts.
  std::vector<bool> has_socket_;
  std::vector<bool> is_current_;
  IndexById index_;
  size_t held_bytes_ = 0;
  bool is_state_ = false;
  bool has_state_ = false;
  int64_t late_count_ = 0;
  uint64_t session_count_ = 0;  // as `state` says
  udpgate::internal::HandedGate gate_;
};

}  // namespace internal
}  // namespace takeover
}  // namespace udpgate

#endif  // UDPGATE_TAKEOVER_INTERNAL_MESSAGES_H_
