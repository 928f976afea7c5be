// The seams for what knows where Redis is: redis_sentinel.h, redis_cluster.h.
#ifndef UDPGATE_REDIS_REDIS_ADDRESS_SOURCE_H_
#define UDPGATE_REDIS_REDIS_ADDRESS_SOURCE_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/base/export.h"

namespace udpgate {

// Threads: any. Must outlive the connections that use it.
class UDPGATE_EXPORT RedisAddressSource {
 public:
  // A `host:port` that `HostPort::Parse` takes, or why there is none.
  using Found = std::function<void(const absl::StatusOr<std::string>&)>;
  using Watcher = std::function<void(const std::string& host_port)>;

  virtual ~RedisAddressSource() = default;

  // Finds out where Redis is now, not where it was before the call. Calls
  // `found` once: inline, or within about `timeout` on another thread, which
  // it must not block.
  virtual void Find(absl::Duration timeout, Found found) = 0;

  // Calls the watcher with each address that differs from the one before, as
  // long as it lives.
  virtual void Watch(std::weak_ptr<const Watcher> watcher) = 0;

  // The last address found is not that of a master.
  virtual void Distrust() = 0;

  // Whether the server must say that it is a master.
  virtual bool names_masters() const = 0;

  // A connection, or an attempt, to the last address found has ended.
  virtual void Lost() {}

  // `error` is an error reply of the server at `replier`. True if it leads to
  // another server, which `Find` knows now: then the connection must follow.
  virtual bool TakeError(absl::string_view /*error*/,
                         const std::string& /*replier*/) {
    return false;
  }

  // Whether ASKING must go before each command
  // (https://redis.io/commands/asking/).
  virtual bool must_ask() const { return false; }
};

// The nodes of a Redis Cluster (`RedisCluster` of redis_cluster.h), or the one
// Redis that turns out to be none. Addresses are `host:port`. Threads: any.
class UDPGATE_EXPORT RedisNodes {
 public:
  virtual ~RedisNodes() = default;

  // True once a node has said so.
  virtual bool is_cluster() const = 0;

  // A source for the connections that use one key.
  virtual std::shared_ptr<RedisAddressSource> SourceFor(
      absl::string_view key) = 0;

  // The same for one that any node can serve (pub/sub).
  virtual std::shared_ptr<RedisAddressSource> SourceForAny() = 0;

  // The node to ask for a key; any one that may know if the owner is unknown.
  virtual std::string NodeOf(absl::string_view key) = 0;

  // The node that the error reply of `replier` names: empty if it names none,
  // or if redirects contradict each other too often. `is_asking` is set if
  // ASKING must go before the command.
  virtual std::string FollowRedirect(absl::string_view error,
                                     const std::string& replier,
                                     bool* is_asking) = 0;

  // The node does not serve: who owns its slots must be found out again.
  virtual void Distrust(const std::string& node) = 0;
};

}  // namespace udpgate

#endif  // UDPGATE_REDIS_REDIS_ADDRESS_SOURCE_H_
