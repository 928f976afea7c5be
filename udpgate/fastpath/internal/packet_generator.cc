#include "udpgate/fastpath/internal/packet_generator.h"

#include <algorithm>
#include <cstring>

namespace udpgate {
namespace fastpath {
namespace internal {
namespace {

// Newer kernels refuse a test run with a frame that ends within the IP header.
// special_packets_test.cc sends such frames to an interface.
bool CanBeFed(const Bytes& frame) {
  const uint16_t type = Get16(frame, 12);
  const size_t ip_bytes = type == 0x0800 ? 20 : type == 0x86DD ? 40 : 1;
  return frame.size() >= kEthernetBytes + ip_bytes;
}

}  // namespace

Bytes Generator::Packet() {
  Bytes frame = OneIn(50) ? Noise() : Good();
  for (int mutations = Below(4) - 1; mutations > 0; --mutations) {
    Mutate(&frame);
  }
  return CanBeFed(frame) ? frame : Packet();
}

Bytes Generator::Noise() {
  Bytes frame(static_cast<size_t>(kEthernetBytes + Below(200)));
  for (uint8_t& byte : frame) byte = static_cast<uint8_t>(Below(256));
  if (!OneIn(4)) std::fill(frame.begin(), frame.begin() + 6, uint8_t{0});
  if (!OneIn(4)) Put16(&frame, 12, OneIn(2) ? 0x0800 : 0x86DD);
  return frame;
}

Bytes Generator::Good() {
  const udpgate_tuple& tuple =
      table_
          ->flow(static_cast<uint32_t>(Below(kSessions)),
                 static_cast<FlowDirection>(Below(2)))
          .expected;
  const bool is_ipv4 = tuple.family == 4;
  const int payload_bytes = OneIn(8) ? Below(1400) : Below(100);
  const size_t ip = kEthernetBytes, ip_bytes = is_ipv4 ? 20 : 40;
  const size_t udp = ip + ip_bytes;
  Bytes frame(udp + 8 + static_cast<size_t>(payload_bytes));
  for (size_t i = 6; i < frame.size(); ++i) {
    frame[i] = static_cast<uint8_t>(Below(256));
  }
  Put16(&frame, 12, is_ipv4 ? 0x0800 : 0x86DD);
  const size_t address_bytes = is_ipv4 ? 4 : 16;
  const size_t addresses = ip + (is_ipv4 ? 12 : 8);
  std::memcpy(&frame[addresses], tuple.source, address_bytes);
  std::memcpy(&frame[addresses + address_bytes], tuple.destination,
              address_bytes);
  std::memcpy(&frame[udp], &tuple.source_port, 4);
  Put16(&frame, udp + 4, 8 + payload_bytes);
  frame[ip] = is_ipv4 ? 0x45 : static_cast<uint8_t>(0x60 | (frame[ip] & 0x0F));
  if (is_ipv4) {
    Put16(&frame, ip + 2, static_cast<int>(ip_bytes) + 8 + payload_bytes);
    Put16(&frame, ip + 6, OneIn(2) ? 0x4000 : 0);
    frame[ip + 9] = 17;
  } else {
    Put16(&frame, ip + 4, 8 + payload_bytes);
    frame[ip + 6] = 17;
  }
  FillChecksums(&frame, is_ipv4, static_cast<size_t>(payload_bytes) + 8);
  return frame;
}

void Generator::FillChecksums(Bytes* frame, bool is_ipv4, size_t udp_bytes) {
  const size_t ip = kEthernetBytes, ip_bytes = is_ipv4 ? 20 : 40;
  const size_t udp = ip + ip_bytes;
  // Makes the checksum 0, 0xFFFF or close to them.
  if (OneIn(3) && udp_bytes >= 10) {
    Put16(frame, udp + 6, 0);
    Put16(frame, udp + 8, 0);
    Put16(frame, udp + 8,
          static_cast<uint16_t>(~UdpSum(*frame, ip_bytes, udp_bytes) +
                                Below(5) - 2));
  }
  Put16(frame, udp + 6, 0);
  const auto checksum =
      static_cast<uint16_t>(~UdpSum(*frame, ip_bytes, udp_bytes));
  Put16(frame, udp + 6, checksum == 0 ? 0xFFFF : checksum);
  if (!is_ipv4) return;
  if (OneIn(5)) Put16(frame, udp + 6, 0);
  Put16(frame, ip + 10, 0);
  Put16(frame, ip + 10, static_cast<uint16_t>(~Sum(&(*frame)[ip], 20)));
}

void Generator::Mutate(Bytes* frame) {
  if (!MutateFrame(frame)) MutateHeaders(frame);
}

bool Generator::MutateFrame(Bytes* frame) {
  switch (Below(16)) {
    case 0:  // truncated
      frame->resize(static_cast<size_t>(kEthernetBytes) +
                    static_cast<size_t>(Below(static_cast<int>(frame->size()) -
                                              kEthernetBytes + 1)));
      return true;
    case 1:  // padding
      frame->resize(frame->size() + static_cast<size_t>(1 + Below(46)), 0xEE);
      return true;
    case 2:  // a VLAN tag
      frame->insert(frame->begin() + 12,
                    {static_cast<uint8_t>(OneIn(2) ? 0x81 : 0x88), 0x00, 0,
                     static_cast<uint8_t>(Below(256))});
      if ((*frame)[12] == 0x88) (*frame)[13] = 0xA8;
      return true;
    case 3:  // to another host, or broadcast
      (*frame)[static_cast<size_t>(Below(6))] =
          static_cast<uint8_t>(1 + Below(255));
      return true;
    default:
      return false;
  }
}

void Generator::MutateFragment(Bytes* frame) {
  const size_t ip = kEthernetBytes;
  const bool is_ipv4 = Get16(*frame, 12) == 0x0800;
  const size_t udp = ip + (is_ipv4 ? 20 : 40);
  if (is_ipv4) {
    Put16(frame, ip + 6, OneIn(2) ? 0x2000 : 1 + Below(0xFFFF));
  } else {
    constexpr uint8_t kHeaders[] = {0, 43, 44, 51, 60};
    frame->insert(frame->begin() + static_cast<int>(udp),
                  {17, 0, 0, 0, 0, 0, 0, 0});
    (*frame)[ip + 6] = kHeaders[Below(5)];
    Put16(frame, ip + 4, Get16(*frame, ip + 4) + 8);
  }
}

void Generator::MutateHeaders(Bytes* frame) {
  const size_t ip = kEthernetBytes;
  const bool is_ipv4 = Get16(*frame, 12) == 0x0800;
  const size_t udp = ip + (is_ipv4 ? 20 : 40);
  if (frame->size() < udp + 8) return;
  switch (Below(12)) {
    case 0:  // header size, version
      (*frame)[ip] = static_cast<uint8_t>(Below(256));
      return;
    case 1:
      (*frame)[ip] = static_cast<uint8_t>(0x40 | Below(16));
      return;
    case 2:  // fragments; a hop-by-hop, routing, fragment header
      MutateFragment(frame);
      return;
    case 3:  // time to live
      (*frame)[ip + (is_ipv4 ? 8U : 7U)] = static_cast<uint8_t>(Below(3));
      return;
    case 4:  // another protocol
      (*frame)[ip + (is_ipv4 ? 9U : 6U)] = static_cast<uint8_t>(Below(256));
      return;
    case 5:  // lengths that disagree
      Put16(frame, ip + (is_ipv4 ? 2U : 4U),
            OneIn(2) ? Below(0x10000)
                     : Get16(*frame, ip + (is_ipv4 ? 2U : 4U)) + Below(5) - 2);
      return;
    case 6:
      Put16(frame, udp + 4, OneIn(2) ? Below(0x10000) : Below(12));
      return;
    case 7:  // one bit of addresses or ports
      (*frame)[ip + (is_ipv4 ? 12U : 8U) +
               static_cast<size_t>(Below(is_ipv4 ? 12 : 36))] ^=
          static_cast<uint8_t>(1 << Below(8));
      return;
    case 8:  // a wrong or missing checksum
      Put16(frame, udp + 6, OneIn(2) ? 0 : Below(0x10000));
      return;
    case 9:
      if (is_ipv4) Put16(frame, ip + 10, Below(0x10000));
      return;
    case 10:  // the type of the other family, or a random one
      Put16(frame, 12, OneIn(2) ? (is_ipv4 ? 0x86DD : 0x0800) : Below(0x10000));
      return;
    default:
      (*frame)[static_cast<size_t>(Below(static_cast<int>(frame->size())))] =
          static_cast<uint8_t>(Below(256));
      return;
  }
}

}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate
