// The kernel fast path: relays the datagrams of established sessions at the
// ingress hook of traffic control (tc-bpf(8)), before the IP layer.
//
//   parse        is it a complete, plain UDP datagram for this host?
//   find         does a session have exactly these addresses and ports?
//   check        lease, size, promotion
//   rewrite      addresses, ports, TTL, DF bit; checksums by difference
//   redirect     to the interface of the flow, to the next hop's link address
//
// A packet that fails a check is passed up unchanged, to the sockets of the
// process, and counted by reason. A packet is dropped only if a kernel helper
// fails in the middle of the rewrite.
//
// Helpers and maps are those of kernel 5.10, and the coarse clock of 5.11 if
// the kernel has it. See ../README.md.
//
// Promotion
//
// A datagram must not overtake earlier ones that are still in the sockets or in
// the process. So each direction records the receive time of the last datagram
// that it passed up (`passed_up_nanoseconds`), and the process publishes the
// receive time of the newest datagram that it has handled
// (`handled_nanoseconds`, from SO_TIMESTAMPNS). Both are skb->tstamp of a
// packet, so the time identifies the packet. If the two are equal, the process
// has handled every datagram that was passed up, since sockets are first in,
// first out. No clock is read and times are not compared by order, so a step of
// the system clock does no harm.
//
// A new flow has passed nothing up, so at least one datagram of each direction
// is passed up first. Once it is handled, all datagrams from before the
// installation are handled too. A datagram that is passed up later (too big, a
// first fragment) makes the following ones wait in the same way.

// The helpers need the types of the first two.
// clang-format off
#include <linux/types.h>
#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
// clang-format on

#include "layout.h"
#include "packet.h"

_Static_assert(sizeof(struct udpgate_next_hop) ==
                   sizeof(struct bpf_redir_neigh),
               "bpf_redirect_neigh() gets the next hop as it is");

// linux/pkt_cls.h and linux/if_packet.h.
#define CONTINUE_WITH_NEXT_PROGRAM (-1) /* TC_ACT_UNSPEC */
#define ACCEPT 0                        /* TC_ACT_OK */
#define DROP 2                          /* TC_ACT_SHOT */
#define SENT_TO_THIS_HOST 0             /* PACKET_HOST */

// The sizes of the first three are set by the loader.
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 2);
  __type(key, struct udpgate_tuple);
  __type(value, __u32);  // index into the next two
} udpgate_index SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 2);
  __type(key, __u32);
  __type(value, struct udpgate_flow);
} udpgate_flows SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 2);
  __type(key, __u32);
  __type(value, struct udpgate_activity);
} udpgate_activity SEC(".maps");

// When the process last renewed it, in CLOCK_MONOTONIC.
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, __u64);
} udpgate_lease SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, UDPGATE_REASONS);
  __type(key, __u32);
  __type(value, __u64);
} udpgate_counters SEC(".maps");

// The only variable in its section, so that the loader can set it.
const volatile struct udpgate_constants udpgate_constants = {{0, 0}, 0};

// The result of parsing a packet.
struct packet {
  struct udpgate_tuple tuple;
  __u32 link_bytes;   // before the IP header
  __u32 ip_bytes;     // of the IP header: 20 or 40
  __u32 total_bytes;  // IP header and the payload that it announces
  __u32 udp_bytes;    // UDP header and payload
  __u16 ttl_word;     // the 16-bit word with the TTL, in wire format
  // The first word of the header, and for IPv4 the two words before the TTL.
  __u16 first_word;
  __u16 identification;
  __u16 flags_and_offset;
  // The reason to pass the packet up although its tuple is known, or
  // UDPGATE_REASONS.
  __u32 obstacle;
};

static __always_inline int pass_up(__u32 reason) {
  __u64* counter = bpf_map_lookup_elem(&udpgate_counters, &reason);
  if (counter) ++*counter;
  return CONTINUE_WITH_NEXT_PROGRAM;
}

// `bytes` bytes of headers from `offset` on, for direct access; null if they
// are not adjacent in memory. Calls of helpers that change the packet make the
// result invalid. The verifier must know `offset`, so that is a constant.
static __always_inline void* adjacent_headers(const struct __sk_buff* skb,
                                              __u32 offset, __u32 bytes) {
  __u8* data = (__u8*)(long)skb->data;
  return data + offset + bytes > (__u8*)(long)skb->data_end ? 0 : data + offset;
}

// Makes them adjacent; null if the packet is shorter, or if the kernel has no
// memory. The verifier sees to it that no other user of the packet's memory
// sees later changes.
static __always_inline void* headers_at(struct __sk_buff* skb, __u32 offset,
                                        __u32 bytes) {
  void* headers = adjacent_headers(skb, offset, bytes);
  if (headers) return headers;
  if (bpf_skb_pull_data(skb, offset + bytes)) return 0;
  return adjacent_headers(skb, offset, bytes);
}

// UDPGATE_REASONS, or the reason to pass the packet up. The lengths must agree:
// the kernel handles packets whose lengths do not.
static __always_inline __u32 parse_ipv4(struct __sk_buff* skb,
                                        struct packet* packet,
                                        __u32 link_bytes) {
  const struct ipv4_udp_headers* headers =
      adjacent_headers(skb, link_bytes, sizeof(*headers));
  if (!headers) {
    struct ipv4_udp_headers copy;
    if (bpf_skb_load_bytes(skb, link_bytes, &copy, sizeof(copy))) {
      return UDPGATE_MALFORMED;
    }
    // To make headers adjacent may take a copy, which other packets do not
    // need.
    if (copy.ip.protocol != PROTOCOL_UDP) return UDPGATE_OTHER_PROTOCOL;
    headers = headers_at(skb, link_bytes, sizeof(*headers));
    if (!headers) return UDPGATE_FAILED;
  }
  if (headers->ip.protocol != PROTOCOL_UDP) return UDPGATE_OTHER_PROTOCOL;
  if (headers->ip.version_and_size != IPV4_VERSION_4_NO_OPTIONS) {
    return headers->ip.version_and_size >> 4 == 4 &&
                   headers->ip.version_and_size > IPV4_VERSION_4_NO_OPTIONS
               ? UDPGATE_OPTIONS
               : UDPGATE_MALFORMED;
  }
  // A later fragment has no ports. The first one has, and the datagrams after
  // it must wait.
  __u16 fragment = bpf_ntohs(headers->ip.flags_and_offset);
  if (fragment & IPV4_OFFSET) return UDPGATE_FRAGMENT;
  packet->total_bytes = bpf_ntohs(headers->ip.length_bytes);
  packet->ip_bytes = sizeof(headers->ip);
  packet->udp_bytes = bpf_ntohs(headers->udp.length_bytes);
  packet->ttl_word = *(__u16*)&headers->ip.time_to_live;
  packet->first_word = *(__u16*)&headers->ip.version_and_size;
  packet->identification = headers->ip.identification;
  packet->flags_and_offset = headers->ip.flags_and_offset;
  if (fragment & IPV4_MORE_FRAGMENTS_OR_OFFSET) {
    packet->obstacle = UDPGATE_FRAGMENT;
  } else if (packet->udp_bytes + sizeof(headers->ip) != packet->total_bytes) {
    return UDPGATE_MALFORMED;
  } else if (headers->ip.time_to_live <= 1) {
    packet->obstacle = UDPGATE_HOP_LIMIT;
  }
  packet->tuple.family = 4;
  __builtin_memcpy(packet->tuple.source, headers->ip.source, 4);
  __builtin_memcpy(packet->tuple.destination, headers->ip.destination, 4);
  packet->tuple.source_port = headers->udp.source_port;
  packet->tuple.destination_port = headers->udp.destination_port;
  return UDPGATE_REASONS;
}

static __always_inline __u32 parse_ipv6(struct __sk_buff* skb,
                                        struct packet* packet,
                                        __u32 link_bytes) {
  const struct ipv6_udp_headers* headers =
      adjacent_headers(skb, link_bytes, sizeof(*headers));
  if (!headers) {
    struct ipv6_udp_headers copy;
    if (bpf_skb_load_bytes(skb, link_bytes, &copy, sizeof(copy))) {
      return UDPGATE_MALFORMED;
    }
    if (copy.ip.version_and_traffic_class[0] >> 4 != 6) {
      return UDPGATE_MALFORMED;
    }
    if (copy.ip.next_header != PROTOCOL_UDP) return UDPGATE_EXTENSION_HEADERS;
    headers = headers_at(skb, link_bytes, sizeof(*headers));
    if (!headers) return UDPGATE_FAILED;
  }
  if (headers->ip.version_and_traffic_class[0] >> 4 != 6) {
    return UDPGATE_MALFORMED;
  }
  if (headers->ip.next_header != PROTOCOL_UDP) return UDPGATE_EXTENSION_HEADERS;
  packet->total_bytes =
      bpf_ntohs(headers->ip.payload_bytes) + sizeof(headers->ip);
  packet->ip_bytes = sizeof(headers->ip);
  packet->udp_bytes = bpf_ntohs(headers->udp.length_bytes);
  packet->ttl_word = *(__u16*)&headers->ip.next_header;
  packet->first_word = *(__u16*)headers->ip.version_and_traffic_class;
  if (packet->udp_bytes + sizeof(headers->ip) != packet->total_bytes) {
    return UDPGATE_MALFORMED;
  }
  if (headers->ip.hop_limit <= 1) {
    packet->obstacle = UDPGATE_HOP_LIMIT;
  } else if (headers->udp.checksum == 0) {
    packet->obstacle = UDPGATE_NO_CHECKSUM;
  }
  packet->tuple.family = 6;
  __builtin_memcpy(packet->tuple.source, headers->ip.source, 16);
  __builtin_memcpy(packet->tuple.destination, headers->ip.destination, 16);
  packet->tuple.source_port = headers->udp.source_port;
  packet->tuple.destination_port = headers->udp.destination_port;
  return UDPGATE_REASONS;
}

// UDPGATE_REASONS if the tuple is known, else the reason to pass the packet up.
static __always_inline __u32 parse(struct __sk_buff* skb, struct packet* packet,
                                   __u32 link_bytes) {
  __u32 reason;
  if (skb->vlan_present) return UDPGATE_TAGGED;
  if (skb->pkt_type != SENT_TO_THIS_HOST) return UDPGATE_OTHER_HOST;
  if (skb->protocol == bpf_htons(ETHERNET_IPV4)) {
    reason = parse_ipv4(skb, packet, link_bytes);
  } else if (skb->protocol == bpf_htons(ETHERNET_IPV6)) {
    reason = parse_ipv6(skb, packet, link_bytes);
  } else {
    return skb->protocol == bpf_htons(0x8100) ||
                   skb->protocol == bpf_htons(0x88A8)
               ? UDPGATE_TAGGED
               : UDPGATE_OTHER_PROTOCOL;
  }
  if (reason != UDPGATE_REASONS) return reason;
  if (packet->udp_bytes < sizeof(struct udp_header) ||
      packet->link_bytes + packet->total_bytes > skb->len) {
    // The UDP length of a first fragment is that of the whole datagram.
    if (packet->obstacle != UDPGATE_FRAGMENT) return UDPGATE_MALFORMED;
  }
  return UDPGATE_REASONS;
}

static __always_inline int is_same_tuple(const struct udpgate_tuple* a,
                                         const struct udpgate_tuple* b) {
  const __u64* left = (const __u64*)a;
  const __u64* right = (const __u64*)b;
  return left[0] == right[0] && left[1] == right[1] && left[2] == right[2] &&
         left[3] == right[3] && left[4] == right[4];
}

// The session has ended or its flow was withdrawn; the index is updated later.
static __always_inline int is_given_back(
    const volatile struct udpgate_flow* flow) {
  return flow->packet_bytes_max == 0;
}

// CLOCK_MONOTONIC, a few milliseconds behind if the coarse clock is there. The
// verifier removes the other branch.
static __always_inline __u64 read_clock(void) {
  return udpgate_constants.has_coarse_clock ? bpf_ktime_get_coarse_ns()
                                            : bpf_ktime_get_ns();
}

static __always_inline int lease_has_ended(__u64 now_nanoseconds) {
  __u32 zero = 0;
  const volatile __u64* renewed = bpf_map_lookup_elem(&udpgate_lease, &zero);
  return !renewed || now_nanoseconds > *renewed + UDPGATE_LEASE_NANOSECONDS;
}

// A super-packet (GSO, GRO) is split later; the size of its segments counts.
static __always_inline int is_too_big(const struct __sk_buff* skb,
                                      const struct packet* packet,
                                      const struct udpgate_flow* flow) {
  __u32 bytes = skb->gso_size ? packet->ip_bytes + sizeof(struct udp_header) +
                                    skb->gso_size
                              : packet->total_bytes;
  return bytes > flow->packet_bytes_max;
}

// True if both directions were seen at this hook with exactly the expected
// tuples (no NAT of this host changes them), and the process has handled all
// datagrams that were passed up ("Promotion", above).
static __always_inline int may_relay(const struct __sk_buff* skb, __u32 index,
                                     const volatile struct udpgate_flow* flow,
                                     volatile struct udpgate_activity* own) {
  if (own->passed_up_nanoseconds == 0 ||
      own->passed_up_nanoseconds != flow->handled_nanoseconds ||
      own->seen_interface != skb->ifindex) {
    return 0;
  }
  if (own->peer_was_seen) return 1;
  __u32 other_index = index ^ 1;
  const volatile struct udpgate_activity* other =
      bpf_map_lookup_elem(&udpgate_activity, &other_index);
  if (!other || other->seen_interface == 0) return 0;
  own->peer_was_seen = 1;
  return 1;
}

// Records that this datagram goes through the sockets. A receive time that more
// than one datagram has (a coarse clock; a super-packet, whose segments the
// process reads one by one) identifies none: 0 is recorded, and a later
// datagram must complete the promotion.
static __always_inline int pass_up_noted(
    const struct __sk_buff* skb, volatile struct udpgate_activity* activity,
    __u32 reason) {
  __u64 received = skb->gso_size ? 0 : skb->tstamp;
  activity->passed_up_nanoseconds =
      received == activity->passed_up_nanoseconds ? 0 : received;
  activity->seen_interface = skb->ifindex;
  return pass_up(reason);
}

// Bytes after the packet, such as the padding of a short Ethernet frame, are
// not forwarded, as by a router.
static __always_inline long cut_padding(struct __sk_buff* skb,
                                        const struct packet* packet) {
  __u32 frame_bytes = packet->link_bytes + packet->total_bytes;
  if (skb->gso_size || skb->len == frame_bytes) return 0;
  return bpf_skb_change_tail(skb, frame_bytes, 0);
}

// With BPF_F_PSEUDO_HDR, a checksum that the device completes
// (CHECKSUM_PARTIAL) gets the difference of the addresses; without it, the
// checksum stays. With BPF_F_MARK_MANGLED_0, a checksum of 0 stays 0, and no
// other becomes 0.
static __always_inline long fix_udp_checksum(struct __sk_buff* skb,
                                             const struct packet* packet,
                                             const struct udpgate_flow* flow) {
  __u32 offset = packet->link_bytes + packet->ip_bytes +
                 __builtin_offsetof(struct udp_header, checksum);
  long error = bpf_l4_csum_replace(skb, offset, 0, flow->address_difference,
                                   BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0);
  if (error) return error;
  return bpf_l4_csum_replace(skb, offset, 0, flow->port_difference,
                             BPF_F_MARK_MANGLED_0);
}

// RFC 1624, equation 3, for the difference of all words at once.
static __always_inline __u16 updated_checksum(__u16 checksum,
                                              __u32 difference) {
  __u32 sum = (__u16)~checksum + difference;
  sum = (sum & 0xFFFF) + (sum >> 16);
  sum = (sum & 0xFFFF) + (sum >> 16);
  return (__u16)~sum;
}

static __always_inline long rewrite_ipv4(struct __sk_buff* skb,
                                         const struct packet* packet,
                                         const struct udpgate_flow* flow,
                                         __u32 link_bytes,
                                         __u64 relayed_before) {
  struct ipv4_udp_headers* headers =
      headers_at(skb, link_bytes, sizeof(*headers));
  if (!headers) return -1;
  // Identification, flags, and the word with the TTL: adjacent in the header.
  __u16 words[3] = {packet->identification, packet->flags_and_offset,
                    packet->ttl_word};
  --*(__u8*)&words[2];
  if (udpgate_constants.rewriting.dont_fragment) {
    words[1] |= bpf_htons(IPV4_DONT_FRAGMENT);
  } else if (words[1] & bpf_htons(IPV4_DONT_FRAGMENT)) {
    // ICMP errors of a later router would reach the gateway and not the sender,
    // so the packet may be fragmented. With DF set the identification could be
    // any number (RFC 6864, section 4.1); now it must be unique for a while.
    words[1] &= bpf_htons((__u16)~IPV4_DONT_FRAGMENT);
    words[0] = (__u16)relayed_before + flow->rewritten.source_port +
               flow->rewritten.destination_port;
  }
  __u16 first_word = packet->first_word;
  if (udpgate_constants.rewriting.clears_traffic_class)
    first_word &= bpf_htons(0xFF00);
  __u32 difference = flow->address_difference;
  difference += (__u16)~packet->first_word + (__u32)first_word;
  difference += (__u16)~packet->identification + (__u32)words[0];
  difference += (__u16)~packet->flags_and_offset + (__u32)words[1];
  difference += (__u16)~packet->ttl_word + (__u32)words[2];
  *(__u16*)&headers->ip.version_and_size = first_word;
  headers->ip.identification = words[0];
  headers->ip.flags_and_offset = words[1];
  *(__u16*)&headers->ip.time_to_live = words[2];
  headers->ip.checksum = updated_checksum(headers->ip.checksum, difference);
  __builtin_memcpy(headers->ip.source, flow->rewritten.source, 4);
  __builtin_memcpy(headers->ip.destination, flow->rewritten.destination, 4);
  headers->udp.source_port = flow->rewritten.source_port;
  headers->udp.destination_port = flow->rewritten.destination_port;
  return 0;
}

// IPv6 has no header checksum that would cancel the change. If the device has
// summed up the packet (CHECKSUM_COMPLETE), bpf_csum_update() keeps that sum
// correct. For the addresses it reverts the effect of BPF_F_PSEUDO_HDR on that
// sum, which is meant for IPv4.
static __always_inline long rewrite_ipv6(struct __sk_buff* skb,
                                         const struct packet* packet,
                                         const struct udpgate_flow* flow,
                                         __u32 link_bytes) {
  __u16 ttl_word = packet->ttl_word;
  --*((__u8*)&ttl_word + 1);
  // Version, traffic class, and four bits of the flow label.
  __u16 first_word = packet->first_word;
  if (udpgate_constants.rewriting.clears_traffic_class)
    first_word &= bpf_htons(0xF00F);
  __u32 difference = flow->address_difference;
  difference += (__u16)~packet->first_word + (__u32)first_word;
  difference += (__u16)~packet->ttl_word + (__u32)ttl_word;
  bpf_csum_update(skb, difference);  // an error: there is no such sum
  struct ipv6_udp_headers* headers =
      headers_at(skb, link_bytes, sizeof(*headers));
  if (!headers) return -1;
  *(__u16*)headers->ip.version_and_traffic_class = first_word;
  *(__u16*)&headers->ip.next_header = ttl_word;
  __builtin_memcpy(headers->ip.source, flow->rewritten.source, 16);
  __builtin_memcpy(headers->ip.destination, flow->rewritten.destination, 16);
  headers->udp.source_port = flow->rewritten.source_port;
  headers->udp.destination_port = flow->rewritten.destination_port;
  return 0;
}

static __always_inline long rewrite(struct __sk_buff* skb,
                                    const struct packet* packet,
                                    const struct udpgate_flow* flow,
                                    __u32 link_bytes, __u64 relayed_before) {
  long error = fix_udp_checksum(skb, packet, flow);
  if (error) return error;
  return packet->tuple.family == 4
             ? rewrite_ipv4(skb, packet, flow, link_bytes, relayed_before)
             : rewrite_ipv6(skb, packet, flow, link_bytes);
}

static __always_inline void count(const struct __sk_buff* skb,
                                  const struct packet* packet,
                                  struct udpgate_activity* activity,
                                  __u64 now_nanoseconds) {
  __u64 payload_bytes = packet->udp_bytes - sizeof(struct udp_header);
  __u64 datagrams = 1;
  if (skb->gso_size) {
    datagrams = (payload_bytes + skb->gso_size - 1) / skb->gso_size;
  }
  __sync_fetch_and_add(&activity->datagrams, datagrams);
  __sync_fetch_and_add(&activity->payload_bytes, payload_bytes);
  *(volatile __u64*)&activity->last_relayed_nanoseconds = now_nanoseconds;
}

// A packet from lo to lo is passed up instead: it already has a route to this
// host, and reaches the socket of its new ports. For all others the kernel
// finds the link address of the next hop. If the flow has none, the kernel
// looks up the route first. Packets to lo need that, since the kernel drops a
// packet without a route there as a martian.
static __always_inline int send(struct __sk_buff* skb,
                                const struct packet* packet,
                                const struct udpgate_flow* flow) {
  if (flow->interface_index == skb->ifindex && flow->is_loopback) return ACCEPT;
  // bpf_redirect_neigh() removes an Ethernet header.
  if (packet->link_bytes == 0 &&
      bpf_skb_change_head(skb, ETHERNET_HEADER_BYTES, 0)) {
    pass_up(UDPGATE_FAILED);
    return DROP;
  }
  if (flow->next_hop.family == 0) {
    return (int)bpf_redirect_neigh(flow->interface_index, 0, 0, 0);
  }
  return (int)bpf_redirect_neigh(flow->interface_index,
                                 (struct bpf_redir_neigh*)&flow->next_hop,
                                 sizeof(flow->next_hop), 0);
}

static __always_inline int handle(struct __sk_buff* skb, __u32 link_bytes) {
  struct packet packet = {.link_bytes = link_bytes,
                          .obstacle = UDPGATE_REASONS};
  __u32 reason = parse(skb, &packet, link_bytes);
  if (reason != UDPGATE_REASONS) return pass_up(reason);

  const __u32* found = bpf_map_lookup_elem(&udpgate_index, &packet.tuple);
  if (!found) return pass_up(UDPGATE_NO_FLOW);
  __u32 index = *found;
  const struct udpgate_flow* flow = bpf_map_lookup_elem(&udpgate_flows, &index);
  struct udpgate_activity* activity =
      bpf_map_lookup_elem(&udpgate_activity, &index);
  if (!flow || !activity || is_given_back(flow) ||
      !is_same_tuple(&packet.tuple, &flow->expected)) {
    return pass_up(UDPGATE_NO_FLOW);
  }

  __u64 now_nanoseconds = read_clock();
  reason = packet.obstacle;
  if (reason == UDPGATE_REASONS) {
    if (is_too_big(skb, &packet, flow)) {
      reason = UDPGATE_TOO_BIG;
    } else if (lease_has_ended(now_nanoseconds)) {
      reason = UDPGATE_LEASE;
    } else if (!may_relay(skb, index, flow, activity)) {
      reason = UDPGATE_OBSERVING;
    } else if (cut_padding(skb, &packet)) {
      reason = UDPGATE_FAILED;
    }
  }
  if (reason != UDPGATE_REASONS) return pass_up_noted(skb, activity, reason);

  __u64 relayed_before = *(volatile __u64*)&activity->datagrams;
  if (rewrite(skb, &packet, flow, link_bytes, relayed_before)) {
    pass_up(UDPGATE_FAILED);
    return DROP;
  }
  count(skb, &packet, activity, now_nanoseconds);
  return send(skb, &packet, flow);
}

// For Ethernet and devices with the same link header (veth, bridges, VLANs,
// lo).
SEC("tc")
int udpgate_eth(struct __sk_buff* skb) {
  return handle(skb, ETHERNET_HEADER_BYTES);
}

// For devices without a link header (tun, WireGuard).
SEC("tc")
int udpgate_raw(struct __sk_buff* skb) { return handle(skb, 0); }

char udpgate_license[] SEC("license") = "Apache-2.0";
