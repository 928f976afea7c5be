// What the program in the kernel (fastpath.bpf.c) and the loader have in
// common: the records of the maps, byte for byte. C, for both compilers.
//
// Every record has one writer: `udpgate_flow` the process, `udpgate_activity`
// the program, except that the process clears it before its slot is used again.
#ifndef UDPGATE_FASTPATH_INTERNAL_LAYOUT_H_
#define UDPGATE_FASTPATH_INTERNAL_LAYOUT_H_

#include <linux/types.h>

// Goes up with every change of what lies in the maps, or of what it means: only
// between programs with the same one flows can be handed over.
#define UDPGATE_LAYOUT_VERSION 1

// A datagram's addresses and ports as they are on the wire, in network byte
// order. IPv4 lies in the first four bytes of an address, and the rest is 0.
struct udpgate_tuple {
  __u8 source[16];
  __u8 destination[16];
  __u16 source_port;
  __u16 destination_port;
  __u32 family;  // 4 or 6
};

// One direction of a session: whose datagrams it takes, and what it makes of
// them. A session has two of them side by side, in slot N at 2 N (from the
// client) and 2 N + 1 (from the backend).
struct udpgate_flow {
  // The hash map leads here, but only this decides: a program that still looks
  // at a hash element while another session takes that element over would
  // otherwise send a datagram to a stranger.
  struct udpgate_tuple expected;
  struct udpgate_tuple rewritten;
  // Receive time of the newest datagram of this direction that the process has
  // dealt with, see "Hand-over" in fastpath.bpf.c. 0: none yet.
  __u64 handled_nanoseconds;
  __u32 interface_index;  // to leave by
  // Of an IP packet, header included. 0: all go up, as if there were no flow.
  __u32 packet_bytes_max;
  __u32 address_difference;  // ones' complement, for the checksums (RFC 1624)
  __u32 port_difference;
  __u32 is_loopback;  // interface_index is that of lo
  __u8 unused[20];
};

// What the program did in one direction; a cache line of its own.
struct udpgate_activity {
  __u64 datagrams;  // relayed; a super-packet counts as what it carries
  __u64 payload_bytes;
  __u64 last_relayed_nanoseconds;  // CLOCK_MONOTONIC
  // Receive time of the last datagram that was passed up to the sockets. 0
  // where there is none that could be named.
  __u64 passed_up_nanoseconds;
  __u32 seen_interface;  // where the last datagram came in; 0: none was seen
  __u32 peer_was_seen;   // the other direction's seen_interface was not 0
  __u8 unused[24];
};

// How the program rewrites packets: constants of the program, which the loader
// sets before the kernel verifies it.
struct udpgate_rewriting {
  __u32 dont_fragment;  // IPv4 packets leave with the DF bit, else without
  __u32 clears_traffic_class;  // DSCP and ECN leave as 0
};

// Why a packet was passed up rather than relayed (`udpgate_counters`).
enum udpgate_reason {
  UDPGATE_OTHER_PROTOCOL,     // not IPv4, not IPv6, or not UDP
  UDPGATE_TAGGED,             // a VLAN tag is still on it
  UDPGATE_OTHER_HOST,         // not sent to this host's link address
  UDPGATE_MALFORMED,          // too short, or lengths that contradict
  UDPGATE_OPTIONS,            // IPv4 options
  UDPGATE_EXTENSION_HEADERS,  // IPv6 header other than UDP
  UDPGATE_NO_FLOW,            // no session has these addresses and ports
  UDPGATE_FRAGMENT,
  UDPGATE_HOP_LIMIT,    // TTL or hop limit would reach 0
  UDPGATE_NO_CHECKSUM,  // IPv6 without UDP checksum
  UDPGATE_TOO_BIG,      // for the interface that it would leave by
  UDPGATE_LEASE,        // the process has not been heard of for too long
  UDPGATE_OBSERVING,    // the hand-over is not complete
  UDPGATE_FAILED,       // a helper of the kernel refused
  UDPGATE_REASONS,
};

// A process that has not renewed its lease for so long is taken for dead.
#define UDPGATE_LEASE_NANOSECONDS 2000000000ULL

#endif  // UDPGATE_FASTPATH_INTERNAL_LAYOUT_H_
