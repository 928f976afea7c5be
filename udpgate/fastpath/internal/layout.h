// The records of the maps, which the eBPF program (fastpath.bpf.c) and the
// process share. C, for both compilers.
//
// Each record has one writer: the process writes `udpgate_flow`, the program
// writes `udpgate_activity`. The process clears the latter before its slot is
// used again.
#ifndef UDPGATE_FASTPATH_INTERNAL_LAYOUT_H_
#define UDPGATE_FASTPATH_INTERNAL_LAYOUT_H_

#include <linux/types.h>

// Increase it with every change of the maps' layout or meaning. A takeover
// continues the flows only if old and new process have the same version.
#define UDPGATE_LAYOUT_VERSION 2

// A datagram's addresses and ports in network byte order. An IPv4 address is in
// the first four bytes; the others are 0.
struct udpgate_tuple {
  __u8 source[16];
  __u8 destination[16];
  __u16 source_port;
  __u16 destination_port;
  __u32 family;  // 4 or 6
};

// Who gets the packets of a flow on the link: the destination or a router. Must
// agree with bpf_redir_neigh of linux/bpf.h.
struct udpgate_next_hop {
  __u32 family;      // AF_INET or AF_INET6; 0: the kernel looks up each packet
  __u8 address[16];  // an IPv4 address is in the first four bytes
};

// One direction of a session: which datagrams it matches, and how they are
// rewritten. The session in slot N has two, at 2 N (from the client) and
// 2 N + 1 (from the backend).
struct udpgate_flow {
  // The program compares this with the datagram after it found the flow in the
  // hash map. The kernel may reuse an element of the hash map while the program
  // reads it, and the datagram would then be sent to another session.
  struct udpgate_tuple expected;
  struct udpgate_tuple rewritten;
  // Receive time of the newest datagram of this direction that the process has
  // handled, see "Promotion" in fastpath.bpf.c. 0: none yet.
  __u64 handled_nanoseconds;
  __u32 interface_index;  // exit interface
  // Of an IP packet, header included. 0: all are passed up, as without a flow.
  __u32 packet_bytes_max;
  __u32 address_difference;  // ones' complement, for the checksums (RFC 1624)
  __u32 port_difference;
  __u32 is_loopback;  // interface_index is that of lo
  struct udpgate_next_hop next_hop;
};

// What the program did in one direction; one cache line.
struct udpgate_activity {
  __u64 datagrams;  // relayed; a super-packet counts as what it carries
  __u64 payload_bytes;
  // CLOCK_MONOTONIC, or a tick before (CLOCK_MONOTONIC_COARSE), more on a busy
  // virtual machine.
  __u64 last_relayed_nanoseconds;
  // Receive time of the last datagram that was passed up to the sockets. 0 if
  // there is none, or if its time does not identify it.
  __u64 passed_up_nanoseconds;
  __u32 seen_interface;  // ingress of the last datagram; 0: none was seen
  __u32 peer_was_seen;   // the other direction's seen_interface was not 0
  __u8 unused[24];
};

// How the program rewrites packets.
struct udpgate_rewriting {
  __u32 dont_fragment;  // IPv4 packets leave with the DF bit, else without
  __u32 clears_traffic_class;  // DSCP and ECN leave as 0
};

// Constants of the program, which the loader sets before the kernel verifies
// it.
struct udpgate_constants {
  struct udpgate_rewriting rewriting;
  __u32 has_coarse_clock;  // bpf_ktime_get_coarse_ns(), from kernel 5.11 on
};

// Why a packet was passed up rather than relayed (`udpgate_counters`).
enum udpgate_reason {
  UDPGATE_OTHER_PROTOCOL,     // not IPv4, not IPv6, or not UDP
  UDPGATE_TAGGED,             // a VLAN tag is still on it
  UDPGATE_OTHER_HOST,         // not addressed to this host's link address
  UDPGATE_MALFORMED,          // too short, or lengths that contradict
  UDPGATE_OPTIONS,            // IPv4 options
  UDPGATE_EXTENSION_HEADERS,  // IPv6 header other than UDP
  UDPGATE_NO_FLOW,            // no session has these addresses and ports
  UDPGATE_FRAGMENT,
  UDPGATE_HOP_LIMIT,    // TTL or hop limit would reach 0
  UDPGATE_NO_CHECKSUM,  // IPv6 without UDP checksum
  UDPGATE_TOO_BIG,      // larger than the flow's limit
  UDPGATE_LEASE,        // the process has not renewed its lease
  UDPGATE_OBSERVING,    // the promotion is not complete
  UDPGATE_FAILED,       // a kernel helper failed
  UDPGATE_REASONS,
};

// After this time without renewal the process counts as dead.
#define UDPGATE_LEASE_NANOSECONDS 2000000000ULL

#endif  // UDPGATE_FASTPATH_INTERNAL_LAYOUT_H_
