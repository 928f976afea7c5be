// What the parts of one shard share.
#ifndef UDPGATE_INTERNAL_SHARD_SHARD_CONTEXT_H_
#define UDPGATE_INTERNAL_SHARD_SHARD_CONTEXT_H_

#include <errno.h>

#include <cstdint>
#include <memory>
#include <utility>

#include "udpgate/internal/net/socket_options.h"
#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/internal/session/session_offload.h"
#include "udpgate/internal/session/session_table.h"
#include "udpgate/internal/shard/gate_context.h"
#include "udpgate/internal/shard/inbox.h"
#include "udpgate/internal/util/counters.h"
#include "udpgate/proxy_options.h"

namespace udpgate {
namespace internal {

// Plain data: each class of this folder has one job and reads the rest here.
//
// Threads: the owner of the shard only. `counters` may be read by anyone.
struct ShardContext {
  // `gate_context` and `shard_counters` must outlive it, and the caller keeps
  // `shard_epoll_fd` open.
  ShardContext(GateContext* gate_context, uint32_t shard_number,
               int shard_epoll_fd, std::shared_ptr<Inbox> shard_inbox,
               Counters* shard_counters)
      : gate(gate_context),
        sys_calls(gate_context->sys_calls),
        number(shard_number),
        epoll_fd(shard_epoll_fd),
        inbox(std::move(shard_inbox)),
        counters(shard_counters),
        traffic{gate_context->options.dont_fragment,
                gate_context->options.copies_traffic_class},
        limits(gate_context->options.limits),
        sessions(shard_number),
        offload(gate_context->flow_offload.get(), shard_counters) {}
  ShardContext(const ShardContext&) = delete;
  ShardContext& operator=(const ShardContext&) = delete;

  // Whether a send has failed since the datagram would have to be fragmented.
  bool WouldFragment(int send_error) const {
    return traffic.dont_fragment && send_error == EMSGSIZE;
  }

  GateContext* const gate;
  SysCalls* const sys_calls;
  const uint32_t number;  // of the shard in the gateway
  const int epoll_fd;
  const std::shared_ptr<Inbox> inbox;
  Counters* const counters;
  const TrafficOptions traffic;

  ProxyLimits limits;
  // The time of this event-loop iteration, read when it begins, and again after
  // sessions were ended.
  int64_t now_nanoseconds = 0;
  uint32_t iteration = 0;  // wraps

  SessionTable sessions;
  SessionOffload offload;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SHARD_SHARD_CONTEXT_H_
