// The Lua scripts of a session store (https://redis.io/docs/interact/
// programmability/eval-intro/). Each is atomic, takes at most
// `kRecordsPerScript` records and one reply.
//
// They read with MGET, which returns nil for a key of another type. Keys that
// depend on what a record says (the lease and the index of its owner) are made
// in the script; in a Redis Cluster they are of the slot of the others.
#ifndef UDPGATE_REDIS_INTERNAL_SESSION_SCRIPTS_H_
#define UDPGATE_REDIS_INTERNAL_SESSION_SCRIPTS_H_

#include <cstddef>

namespace udpgate {
namespace redis {
namespace internal {

// About 0.5 ms of Redis.
inline constexpr size_t kRecordsPerScript = 128;
// Of a value in a reply; the rest of a longer one, which is no record, is cut.
inline constexpr size_t kValueBytesMax = 512;

// What the scripts reply for each record.
inline constexpr char kOutcomeDone = 'd';
inline constexpr char kOutcomeAbsent = 'a';
inline constexpr char kOutcomeOtherOwner = 'o';
inline constexpr char kOutcomeOwnerLives = 'l';

// KEYS: gateways, index, records. ARGV: prefix, lifetime in ms, escaped gateway
// id, values. Replies with a letter for each record.
extern const char kWriteScript[];
// KEYS: records. ARGV: prefix, lifetime in ms, tokens. The same.
extern const char kRefreshScript[];
// KEYS: records. ARGV: prefix, tokens. The same.
extern const char kRemoveScript[];
// KEYS: gateways, index, records. ARGV: prefix, lifetime in ms, escaped gateway
// id; for each record: token of the former owner, escaped id of the gateway
// that must not live or "", value. The same.
extern const char kAdoptScript[];
// KEYS: records. ARGV: prefix. Replies with value and lease of the owner for
// each, "" for none.
extern const char kFindScript[];
// KEYS: index, records. ARGV: prefix, escaped gateway id, "1" to reply with the
// values. Removes clients without a record of this gateway from the index.
// Replies with the values, "" for none; or with the number of removed ones.
extern const char kListScript[];
// KEYS: gateways. ARGV: prefix, escaped gateway ids. Removes gateways that have
// neither lease nor records. Replies for each of them with the lease, "" if it
// has only records, or "gone".
extern const char kGatewaysScript[];
inline constexpr char kGatewayGone[] = "gone";
// KEYS: lease, gateways. ARGV: lease, lifetime in ms, escaped gateway id,
// lifetime of the gateways in ms. Replies with the lease that was there, or "".
extern const char kRenewLeaseScript[];
// KEYS: lease, gateways, index. ARGV: run, escaped gateway id. Replies with a
// letter.
extern const char kEndLeaseScript[];

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_SESSION_SCRIPTS_H_
