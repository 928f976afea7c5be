// Keeps confirmed sessions outside of the gateway, so that they survive it: a
// gateway that starts again, or another one, continues them.
//
// `RedisSessionStore` (//udpgate/redis) keeps them in Redis. Implement the
// interface to use another store. `FakeSessionStore` and `MockSessionStore`
// (//testing) are for tests. `SessionKeeper` (//udpgate/store) connects a
// `Proxy` with a store.
#ifndef UDPGATE_SESSION_STORE_H_
#define UDPGATE_SESSION_STORE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "udpgate/base/export.h"
#include "udpgate/socket_address.h"

namespace udpgate {

// Identifies an owner of one session. Whoever owns a session has written a
// token of its own into the record, so that nobody changes or deletes the
// record of a later owner.
struct UDPGATE_EXPORT SessionToken {
  uint64_t run = 0;      // random, of one run of one gateway
  uint64_t session = 0;  // SessionInfo::id

  friend bool operator==(const SessionToken& a, const SessionToken& b) {
    return a.run == b.run && a.session == b.session;
  }
  friend bool operator!=(const SessionToken& a, const SessionToken& b) {
    return !(a == b);
  }
};

// The record of a confirmed session. `client` is the key: a store has at most
// one record for each client address.
struct UDPGATE_EXPORT StoredSession {
  SocketAddress client;
  SocketAddress local;  // the gateway's address that the client sends to
  SocketAddress backend;
  SocketAddress relay;     // source address and port towards the backend
  std::string label;       // ResolveResult::label
  std::string tag_key;     // SessionTag::key; empty without a tag
  std::string tag_text;    // SessionTag::text: for NetherNet the networkId
  std::string gateway_id;  // of the owner
  SessionToken token;      // of the owner
  absl::Time since;        // of the client's first datagram, by wall clock
};

// The claim of a gateway that it lives. It runs out unless it is renewed, and
// then other gateways may adopt the sessions.
struct UDPGATE_EXPORT GatewayLease {
  std::string gateway_id;
  uint64_t run = 0;  // SessionToken::run
  // Where other gateways of the fleet send datagrams for its sessions to, see
  // SESSION_FORWARD; empty: nowhere. At most 128 bytes.
  std::string forward_address;
};

// Threads: every method may be called from any thread. None blocks. Each `done`
// is called exactly once, from a thread of the store or inline, and must not
// block; after `Stop` it may be called with Cancelled or destroyed uncalled.
// The results are in the order of the arguments.
//
// Errors: Unavailable if the store cannot be reached or is too slow,
// ResourceExhausted if too much waits for it, FailedPrecondition if it refuses
// the call. Then nothing is known of what was changed, and the call may be
// repeated: all of them are idempotent.
//
// Ownership: shared.
class UDPGATE_EXPORT SessionStore {
 public:
  // What has become of one record.
  enum class Outcome : uint8_t {
    kDone,
    kAbsent,      // there is no record, or one that does not parse
    kOtherOwner,  // the record has another token
    kOwnerLives,  // of Adopt: the lease of the owner has not run out
  };
  struct SessionKey {
    SocketAddress client;
    SessionToken token;
  };
  struct Adoption {
    StoredSession adopted;  // the new record
    SessionToken from;      // the token of the record that it replaces
    // The id of the owner. Adopted only if its lease has run out. Empty:
    // adopted whether or not it lives.
    std::string unless_lives;
  };
  struct Found {
    absl::optional<StoredSession> session;
    // The lease of the session's owner; nullopt if it has run out.
    absl::optional<GatewayLease> owner;
  };
  template <typename T>
  using Done = absl::AnyInvocable<void(absl::StatusOr<T>)>;

  virtual ~SessionStore() = default;

  // Starts to connect. A store that cannot be reached is no error.
  virtual absl::Status Start() = 0;
  // Returns after a running `done` has returned. May be called twice.
  virtual void Stop() = 0;
  // OK if a call would probably succeed now; otherwise the reason.
  virtual absl::Status Health() const = 0;

  // Writes records, whatever the store had under their clients. They run out
  // after `lifetime`.
  virtual void Write(std::vector<StoredSession> sessions,
                     absl::Duration lifetime,
                     Done<std::vector<Outcome>> done) = 0;
  // Prolongs records that still have the token. kDone, kAbsent or kOtherOwner.
  virtual void Refresh(std::vector<SessionKey> keys, absl::Duration lifetime,
                       Done<std::vector<Outcome>> done) = 0;
  // Deletes records that still have the token. kDone, kAbsent or kOtherOwner.
  virtual void Remove(std::vector<SessionKey> keys,
                      Done<std::vector<Outcome>> done) = 0;
  // Replaces records that still have the token `from`. kDone as well if the
  // record has the new token already, so that a call may be repeated.
  virtual void Adopt(std::vector<Adoption> adoptions, absl::Duration lifetime,
                     Done<std::vector<Outcome>> done) = 0;

  // The records of these clients.
  virtual void Find(std::vector<SocketAddress> clients,
                    Done<std::vector<Found>> done) = 0;
  // All records of a gateway. Those that do not parse are left out and counted.
  virtual void List(const std::string& gateway_id,
                    Done<std::vector<StoredSession>> done) = 0;
  // The clients of the records of a gateway, which is much cheaper.
  virtual void ListClients(const std::string& gateway_id,
                           Done<std::vector<SocketAddress>> done) = 0;

  // Writes or prolongs a lease, which runs out after `lifetime`. The result is
  // the lease that was there, if it has not run out.
  virtual void RenewLease(GatewayLease lease, absl::Duration lifetime,
                          Done<absl::optional<GatewayLease>> done) = 0;
  // Ends the lease, if its run is still this one.
  virtual void EndLease(const GatewayLease& lease, Done<Outcome> done) = 0;
  // The ids of all gateways that have records, and the leases of those that
  // live.
  struct Gateway {
    std::string id;
    absl::optional<GatewayLease> lease;
  };
  virtual void ListGateways(Done<std::vector<Gateway>> done) = 0;
};

}  // namespace udpgate

#endif  // UDPGATE_SESSION_STORE_H_
