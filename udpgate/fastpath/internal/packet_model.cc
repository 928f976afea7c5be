#include "udpgate/fastpath/internal/packet_model.h"

#include <cstring>

namespace udpgate {
namespace fastpath {
namespace internal {
namespace {

// RFC 1624, equation 3, for one word.
uint16_t Adjust(uint16_t checksum, uint16_t before, uint16_t after) {
  uint32_t sum = static_cast<uint16_t>(~checksum);
  sum += static_cast<uint16_t>(~before);
  sum += after;
  while (sum > 0xFFFF) sum = (sum & 0xFFFF) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

Verdict Up(int reason, int index = -1) {
  Verdict verdict;
  verdict.reason = reason;
  verdict.index = index;
  return verdict;
}

int FindFlow(const FlowTable& table, const udpgate_tuple& tuple) {
  for (uint32_t slot = 0; slot < kSessions; ++slot) {
    for (uint32_t direction = 0; direction < 2; ++direction) {
      const udpgate_tuple& expected =
          table.flow(slot, static_cast<FlowDirection>(direction)).expected;
      if (std::memcmp(&expected, &tuple, sizeof(tuple)) == 0) {
        return static_cast<int>(slot * 2 + direction);
      }
    }
  }
  return -1;
}

udpgate_tuple TupleOf(const Bytes& frame, size_t ip_bytes) {
  udpgate_tuple tuple;
  std::memset(&tuple, 0, sizeof(tuple));
  const size_t bytes = ip_bytes == 20 ? 4 : 16;
  const size_t at = kEthernetBytes + (ip_bytes == 20 ? 12 : 8);
  std::memcpy(tuple.source, &frame[at], bytes);
  std::memcpy(tuple.destination, &frame[at + bytes], bytes);
  std::memcpy(&tuple.source_port, &frame[kEthernetBytes + ip_bytes], 4);
  tuple.family = ip_bytes == 20 ? 4 : 6;
  return tuple;
}

}  // namespace

uint16_t Get16(const Bytes& bytes, size_t at) {
  return static_cast<uint16_t>(bytes[at] << 8 | bytes[at + 1]);
}

void Put16(Bytes* bytes, size_t at, int value) {
  (*bytes)[at] = static_cast<uint8_t>(value >> 8);
  (*bytes)[at + 1] = static_cast<uint8_t>(value);
}

uint16_t Sum(const uint8_t* data, size_t bytes, uint32_t sum) {
  for (size_t i = 0; i < bytes; ++i) {
    sum += i % 2 == 0 ? static_cast<uint32_t>(data[i] << 8) : data[i];
    sum = (sum & 0xFFFF) + (sum >> 16);
  }
  return static_cast<uint16_t>(sum);
}

uint16_t UdpSum(const Bytes& frame, size_t ip_bytes, size_t udp_bytes) {
  const size_t addresses = kEthernetBytes + (ip_bytes == 20 ? 12 : 8);
  uint16_t sum = Sum(&frame[addresses], ip_bytes == 20 ? 8 : 32);
  const uint8_t rest[] = {0, 17, static_cast<uint8_t>(udp_bytes >> 8),
                          static_cast<uint8_t>(udp_bytes)};
  sum = Sum(rest, 4, sum);
  return Sum(&frame[kEthernetBytes + ip_bytes], udp_bytes, sum);
}

Verdict Classify(const Bytes& frame, const FlowTable& table) {
  const uint16_t type = Get16(frame, 12);
  for (int i = 0; i < 6; ++i) {
    if (frame[i] != 0) return Up(UDPGATE_OTHER_HOST);
  }
  if (type == 0x8100 || type == 0x88A8) return Up(UDPGATE_TAGGED);
  if (type != 0x0800 && type != 0x86DD) return Up(UDPGATE_OTHER_PROTOCOL);
  const size_t ip_bytes = type == 0x0800 ? 20 : 40;
  const size_t udp = kEthernetBytes + ip_bytes;
  if (frame.size() < udp + 8) return Up(UDPGATE_MALFORMED);
  const uint8_t* const ip = &frame[kEthernetBytes];
  size_t total_bytes = 0;
  bool first_fragment = false;
  if (type == 0x0800) {
    if (ip[9] != 17) return Up(UDPGATE_OTHER_PROTOCOL);
    if (ip[0] >= 0x46 && ip[0] <= 0x4F) return Up(UDPGATE_OPTIONS);
    if (ip[0] != 0x45) return Up(UDPGATE_MALFORMED);
    const uint16_t fragment = Get16(frame, kEthernetBytes + 6);
    if ((fragment & 0x1FFF) != 0) return Up(UDPGATE_FRAGMENT);
    first_fragment = (fragment & 0x2000) != 0;
    total_bytes = Get16(frame, kEthernetBytes + 2);
  } else {
    if (ip[0] >> 4 != 6) return Up(UDPGATE_MALFORMED);
    if (ip[6] != 17) return Up(UDPGATE_EXTENSION_HEADERS);
    total_bytes = Get16(frame, kEthernetBytes + 4) + 40U;
  }
  const size_t udp_bytes = Get16(frame, udp + 4);
  if (!first_fragment &&
      (udp_bytes < 8 || udp_bytes + ip_bytes != total_bytes ||
       kEthernetBytes + total_bytes > frame.size())) {
    return Up(UDPGATE_MALFORMED);
  }
  const int index = FindFlow(table, TupleOf(frame, ip_bytes));
  if (index < 0) return Up(UDPGATE_NO_FLOW);
  if (first_fragment) return Up(UDPGATE_FRAGMENT, index);
  if (ip[type == 0x0800 ? 8 : 7] <= 1) return Up(UDPGATE_HOP_LIMIT, index);
  if (type == 0x86DD && Get16(frame, udp + 6) == 0) {
    return Up(UDPGATE_NO_CHECKSUM, index);
  }
  Verdict verdict;
  verdict.index = index;
  verdict.ip_bytes = ip_bytes;
  verdict.total_bytes = total_bytes;
  verdict.udp_bytes = udp_bytes;
  return verdict;
}

Bytes Relayed(Bytes frame, const Verdict& verdict, const udpgate_flow& flow,
              bool is_super_packet, const udpgate_rewriting& rewriting) {
  const bool is_ipv4 = verdict.ip_bytes == 20;
  const size_t ip = kEthernetBytes;
  const size_t udp = ip + verdict.ip_bytes;
  if (!is_super_packet) frame.resize(ip + verdict.total_bytes);
  const Bytes before = frame;
  const size_t address_bytes = is_ipv4 ? 4 : 16;
  const size_t addresses = ip + (is_ipv4 ? 12 : 8);
  std::memcpy(&frame[addresses], flow.rewritten.source, address_bytes);
  std::memcpy(&frame[addresses + address_bytes], flow.rewritten.destination,
              address_bytes);
  std::memcpy(&frame[udp], &flow.rewritten.source_port, 4);
  --frame[ip + (is_ipv4 ? 8 : 7)];
  if (is_ipv4) {
    const uint16_t flags = Get16(frame, ip + 6);
    if (rewriting.dont_fragment != 0) {
      Put16(&frame, ip + 6, flags | 0x4000);
    } else if ((flags & 0x4000) != 0) {
      Put16(&frame, ip + 6, flags & ~0x4000);
      // Of the first datagram that the flow relays.
      const auto identification = static_cast<uint16_t>(
          flow.rewritten.source_port + flow.rewritten.destination_port);
      std::memcpy(&frame[ip + 4], &identification, 2);
    }
  }
  if (rewriting.clears_traffic_class != 0) {
    frame[ip] &= is_ipv4 ? 0xFF : 0xF0;
    frame[ip + 1] &= is_ipv4 ? 0x00 : 0x0F;
  }
  uint16_t udp_checksum = Get16(before, udp + 6);
  uint16_t ip_checksum = Get16(before, ip + 10);
  for (size_t at = ip; at < udp + 4; at += 2) {
    if (is_ipv4 && (at == ip + 10)) continue;
    const uint16_t old_word = Get16(before, at), new_word = Get16(frame, at);
    if (at < udp) ip_checksum = Adjust(ip_checksum, old_word, new_word);
    if (at >= addresses) {
      udp_checksum = Adjust(udp_checksum, old_word, new_word);
    }
  }
  if (is_ipv4) Put16(&frame, ip + 10, ip_checksum);
  if (Get16(before, udp + 6) != 0) {
    Put16(&frame, udp + 6, udp_checksum == 0 ? 0xFFFF : udp_checksum);
  }
  return frame;
}

}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate
