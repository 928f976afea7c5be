// The packet headers that the program reads, as they are on the wire. Numbers
// of more than one byte are in network byte order.
#ifndef UDPGATE_FASTPATH_INTERNAL_PACKET_H_
#define UDPGATE_FASTPATH_INTERNAL_PACKET_H_

#include <linux/types.h>

#define ETHERNET_HEADER_BYTES 14
#define ETHERNET_IPV4 0x0800
#define ETHERNET_IPV6 0x86DD
#define PROTOCOL_UDP 17

struct udp_header {  // RFC 768
  __u16 source_port;
  __u16 destination_port;
  __u16 length_bytes;  // with this header
  __u16 checksum;
};

struct ipv4_header {      // RFC 791
  __u8 version_and_size;  // 4, and the size in units of 4 bytes
  __u8 traffic_class;     // DSCP and ECN
  __u16 length_bytes;     // with this header
  __u16 identification;
  __u16 flags_and_offset;
  __u8 time_to_live;
  __u8 protocol;
  __u16 checksum;
  __u8 source[4];
  __u8 destination[4];
};

#define IPV4_VERSION_4_NO_OPTIONS 0x45
#define IPV4_DONT_FRAGMENT 0x4000
#define IPV4_MORE_FRAGMENTS_OR_OFFSET 0x3FFF
#define IPV4_OFFSET 0x1FFF

struct ipv6_header {  // RFC 8200
  __u8 version_and_traffic_class[4];
  __u16 payload_bytes;  // without this header
  __u8 next_header;
  __u8 hop_limit;
  __u8 source[16];
  __u8 destination[16];
};

struct ipv4_udp_headers {
  struct ipv4_header ip;
  struct udp_header udp;
};

struct ipv6_udp_headers {
  struct ipv6_header ip;
  struct udp_header udp;
};

#endif  // UDPGATE_FASTPATH_INTERNAL_PACKET_H_
