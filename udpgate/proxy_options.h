// Every option of a `Proxy`, with its unit and its default.
//
//   udpgate::ProxyOptions options;
//   options.listen_address = udpgate::SocketAddress::Ipv4Any(19132);
//   options.limits.session_idle_timeout = absl::Seconds(30);
//
// The defaults suit a small server. `Proxy::Create` takes a copy and calls
// `Validate`. Threads: as any struct.
#ifndef UDPGATE_PROXY_OPTIONS_H_
#define UDPGATE_PROXY_OPTIONS_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "udpgate/base/export.h"
#include "udpgate/cidr.h"
#include "udpgate/logging.h"
#include "udpgate/socket_address.h"

namespace udpgate {

// Limits on clients and their sessions.
struct UDPGATE_EXPORT ProxyLimits {
  // A session without a datagram in either direction ends between 1.0 and 1.25
  // times this after its last datagram. 10 ms to 1 day.
  absl::Duration session_idle_timeout = absl::Seconds(60);

  // Limit on live sessions; 0: none. Two more limits apply in any case: each
  // session takes a descriptor (RLIMIT_NOFILE, minus a reserve) and a source
  // port. `Proxy::session_limit` returns the limit in force. 0 to
  // 1,000,000,000.
  int64_t max_sessions = 0;

  // A session ends if its client sends and its backend stays silent: between
  // 1.0 and 1.25 times this after the client's first datagram since the last
  // reply. The client's next datagram resolves a backend again. Zero: never,
  // for traffic that goes one way only. 10 ms to 1 day.
  absl::Duration backend_silent_timeout = absl::Seconds(30);

  // A session whose client sends nothing ends between 1.0 and 1.25 times this
  // after the client's last datagram, whatever its backend sends. Zero: never.
  // 10 ms to 1 day.
  absl::Duration client_silent_timeout = absl::Seconds(300);

  // ICMP errors of the backend's host or of the route to it (port, host or
  // network unreachable, prohibited and the like), and sends that the own host
  // refuses, in a row with no reply between them, that end a session. As many
  // of the client's host end it as `client_silent`. 1 to 1000.
  int backend_refusals_max = 3;

  // How long a client waits for its backend. 1 ms to 1 hour.
  absl::Duration resolve_timeout = absl::Milliseconds(3000);

  // Datagrams kept for one client that waits for its backend. 1 to 1024.
  int pending_datagrams_max = 16;

  // Limits on the clients that wait for their backend, and on the bytes that
  // are kept for all of them. 1 to 2^20; 65536 to 2^40.
  int64_t pending_clients_max = 4096;
  int64_t pending_bytes_max = int64_t{16} << 20;

  // Limit on live sessions of one IPv4 address or one IPv6 /64; 0: none. A
  // further client evicts the session whose client is silent longest: an
  // unconfirmed one after 2 seconds of silence, a confirmed one after 10.
  int64_t max_sessions_per_ip = 0;

  // Limit on those of them that are not confirmed yet, pending ones included;
  // 0: none. Further clients are rejected. It ends loops: two gateways that are
  // each other's backend take each other's sockets for new clients, and so does
  // a gateway whose backend's address leads back to it.
  int64_t max_unconfirmed_sessions_per_ip = 512;

  // Limits on new sessions per second, which are also the burst size: in total,
  // and per IPv4 address or IPv6 /64. 0: none. 0 to 1,000,000.
  int64_t new_sessions_per_second = 10'000;
  int64_t new_sessions_per_second_per_ip = 0;

  // Clients that may create a session: none in `deny_cidrs`, and if
  // `allow_cidrs` is not empty, only those in it. Live sessions are not checked
  // again.
  CidrList allow_cidrs;
  CidrList deny_cidrs;

  // An unconfirmed session (its client has not yet shown that it receives
  // replies) ends this long after its client's last datagram, whatever its
  // backend sends. The default outlasts common keepalives of 25 s. 10 ms to 1
  // day.
  absl::Duration unconfirmed_timeout = absl::Seconds(30);

  // Anti-amplification limit (compare RFC 9000, section 8): a client that has
  // not sent since its first reply gets at most this many times the bytes that
  // it sent, and 2048 bytes in any case. After one datagram since a reply it
  // gets 16 MiB; after three, each after another reply, there is no limit. 0:
  // no limit at all. 0 to 1,000,000.
  int64_t unconfirmed_reply_factor = 10;

  // Replies beyond that limit wait in the upstream socket, for at most this
  // many sessions of a shard, since they take the kernel's memory; those of
  // further sessions are dropped. 0 to 65,536.
  int64_t paused_sessions_max = 64;

  // As `ProxyOptions::Validate`, for the limits only.
  absl::Status Validate() const;
};

// The options that cannot change, and the initial limits.
struct UDPGATE_EXPORT ProxyOptions {
  // Where clients send to. A wildcard `[::]` serves IPv4 and IPv6. Port 0 lets
  // the kernel choose; `Proxy::listen_addresses` says which.
  SocketAddress listen_address = SocketAddress::Ipv4Any(19132);

  // Bound UDP sockets to adopt instead of binding `listen_address` (socket
  // activation, tests): one for each listener, all of the same address. The
  // Proxy owns them from the moment `Create` is called, even if that fails, and
  // sets them to blocking mode.
  std::vector<int> listen_fds;

  // Binds addresses that this host does not have yet, since a standby gets them
  // later (IP_FREEBIND of ip(7), IPV6_FREEBIND). This applies to
  // `listen_address` and to `upstream_bind_addresses`; of the latter only those
  // that the host has are used. If `listen_fds` are given, their owner sets the
  // socket option.
  bool binds_absent_addresses = false;

  // Sockets and reader threads on `listen_address`; more than one use
  // SO_REUSEPORT. 1 to 64. Ignored with `listen_fds`.
  int listener_count = 1;

  // Threads of the worker pool, one shard of the sessions each. 0: no pool,
  // each listener's thread handles what it reads. 0 to 256.
  int worker_count = DefaultWorkerCount();

  // Source addresses towards backends, used in rotation if they are of the
  // backend's family; empty: the system's routes choose. Each has a range of
  // ports of its own, so several carry more sessions. No wildcards; at most 64.
  std::vector<SocketAddress> upstream_bind_addresses;

  // Quarantine: how long a source port on which a backend has replied is not
  // reused after its session, while other ports are free. 0 to 1 hour.
  absl::Duration port_quarantine = absl::Seconds(30);

  // How long an address of a backend is avoided after it has refused sessions
  // or fallen silent, if the backend has others (see
  // `ResolveResult::alternatives`). A reply ends it. 0 to 1 hour.
  absl::Duration backend_holdoff = absl::Seconds(10);

  // Where other gateways of the fleet send the datagrams of clients whose
  // sessions are here (`ResolveResult::forward_to`), sealed with
  // `ProxyDependencies::envelope_keys`. One address of this host that the
  // others reach; with port 0 the kernel chooses, see `Proxy::forward_address`.
  // Invalid: nothing is forwarded, here or there.
  SocketAddress forward_address;

  // Limit on the clients that are forwarded to other gateways. 1 to 2^20.
  int64_t forwarded_clients_max = 65'536;

  // How long the gateway that has a session may be silent while its client
  // sends. After half of this time that gateway is asked whether it has the
  // session. After this time the client is resolved again. After twice this
  // time that gateway is given up, and the client gets a session here. 10 ms to
  // 1 day.
  absl::Duration forward_patience = absl::Seconds(2);

  // Limit on the datagrams that wait for one shard; their bytes are limited to
  // 2 KiB times as many, but always allow one of the largest datagrams. A full
  // queue drops and counts. 1 to 1,048,576.
  int queue_size_datagrams = 4096;

  // Datagrams for one recvmmsg(2) or sendmmsg(2). 1 to 1024 (UIO_MAXIOV).
  int batch_size = 64;

  // Receive and send buffer of each listening socket, as SO_RCVBUF and
  // SO_SNDBUF of socket(7) take it. The kernel may grant less
  // (net.core.rmem_max); `Proxy::receive_buffer_bytes` says what it granted. 4
  // KiB to 1 GiB.
  int64_t receive_buffer_bytes = 8 << 20;

  // Whether a datagram that does not fit into one packet of the interface that
  // it would leave by is dropped, and counted as `would_fragment`, rather than
  // sent in fragments; both ways. Packets over IPv4 then carry the DF bit (RFC
  // 791, section 2.3), so no router splits them either.
  bool dont_fragment = false;

  // Whether a datagram leaves with the traffic class that it came with, both
  // ways: DSCP (RFC 2474) and ECN (RFC 3168), the TOS byte of IPv4. Otherwise
  // it leaves with 0.
  bool copies_traffic_class = true;

  // The gateway's source ports towards backends, in the order in which to use
  // them first. Empty: all that the system leaves to programs for this
  // (net.ipv4.ip_local_port_range without net.ipv4.ip_local_reserved_ports), in
  // random order. Each session takes one.
  std::vector<uint16_t> relay_ports;

  // Queue depth of disconnect events, per shard. If it is full, the caller
  // waits for room: no event is dropped. 1 to 1,048,576.
  int disconnect_queue_size = 1024;

  // Reports that wait to become log lines; a full queue drops and counts them
  // (`events_suppressed`). 1 to 1,048,576.
  int event_queue_size = 1024;

  // Limit on the events of one shard that wait for the `SessionObserver`. Their
  // memory, under 256 bytes each, is allocated at startup, if there is an
  // observer; a label of more than 15 bytes takes its own size as well. A full
  // queue drops and counts them (`session_events_dropped`). 1 to 1,048,576.
  int session_events_max = 1024;

  // Seed of the hash that spreads clients over shards and listeners; 0: random.
  // Sockets of another gateway (`listen_fds`) need the seed that it had: the
  // kernel continues to choose the listener by it.
  uint64_t client_hash_seed = 0;

  ProxyLimits limits;

  // Receives the log lines; see logging.h.
  LogSink log_sink = StderrLogSink();

  // The processors that this process may use minus one for the reader, and at
  // least 1: threads beyond the processors cost wake-ups (docs/tuning.md).
  static int DefaultWorkerCount();

  // OK, or InvalidArgument that names the field, its value and what is
  // allowed; the field's name is data too, see option_error.h. The ranges are
  // those of proxy_option_ranges.h.
  absl::Status Validate() const;
};

}  // namespace udpgate

#endif  // UDPGATE_PROXY_OPTIONS_H_
