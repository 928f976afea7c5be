#include "udpgate/internal/net/client_hash.h"

#include <netinet/in.h>

#include <cstring>
#include <random>

namespace udpgate {
namespace internal {
namespace {

// The finalizer of SplitMix64, to spread one seed over four constants.
uint64_t Mix(uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

constexpr uint32_t kWordShift = 16;
constexpr uint32_t kPortShift = 15;
constexpr uint32_t kFinalShift = 16;

// Offsets that the filter loads relative to the network header.
constexpr uint32_t kNetworkHeader = static_cast<uint32_t>(SKF_NET_OFF);
constexpr uint32_t kIpv4Source = kNetworkHeader + 12;
constexpr uint32_t kIpv6Source = kNetworkHeader + 8;
constexpr uint32_t kIpv6HeaderBytes = 40;

using Program = std::vector<sock_filter>;

void Append(Program* program, int code, uint32_t operand) {
  program->push_back(BPF_STMT(static_cast<uint16_t>(code), operand));
}

// A = A ^ (A >> shift)
void AppendFold(Program* program, uint32_t shift) {
  Append(program, BPF_MISC | BPF_TAX, 0);
  Append(program, BPF_ALU | BPF_RSH | BPF_K, shift);
  Append(program, BPF_ALU | BPF_XOR | BPF_X, 0);
}

}  // namespace

ClientHash::ClientHash(uint64_t seed)
    : seed_(seed),
      start_(static_cast<uint32_t>(Mix(seed))),
      word_multiplier_(static_cast<uint32_t>(Mix(seed + 1)) | 1),
      port_multiplier_(static_cast<uint32_t>(Mix(seed + 2)) | 1),
      final_multiplier_(static_cast<uint32_t>(Mix(seed + 3)) | 1) {}

ClientHash ClientHash::Random() {
  std::random_device device;
  return ClientHash((uint64_t{device()} << 32) | device());
}

uint32_t ClientHash::operator()(const SocketAddress& client) const {
  uint32_t hash = start_;
  const int word_count = client.is_ipv4() ? 1 : 4;
  for (int i = 0; i < word_count; ++i) {
    uint32_t word;
    std::memcpy(&word, client.ip_bytes().data() + 4 * i, 4);
    hash = (hash ^ ntohl(word)) * word_multiplier_;
    hash ^= hash >> kWordShift;
  }
  hash = (hash + client.port()) * port_multiplier_;
  hash ^= hash >> kPortShift;
  hash *= final_multiplier_;
  return hash ^ (hash >> kFinalShift);
}

std::vector<sock_filter> ClientHash::ReuseportProgram(
    uint32_t listener_count) const {
  // M[0] holds the hash so far, X at the end the size of the IP header.
  const auto append_word = [this](Program* program, uint32_t offset) {
    Append(program, BPF_LD | BPF_W | BPF_ABS, offset);
    Append(program, BPF_LDX | BPF_MEM, 0);
    Append(program, BPF_ALU | BPF_XOR | BPF_X, 0);
    Append(program, BPF_ALU | BPF_MUL | BPF_K, word_multiplier_);
    AppendFold(program, kWordShift);
    Append(program, BPF_ST, 0);
  };
  Program ipv4;
  append_word(&ipv4, kIpv4Source);
  Append(&ipv4, BPF_LDX | BPF_B | BPF_MSH, kNetworkHeader);
  Program ipv6;
  for (uint32_t i = 0; i < 4; ++i) append_word(&ipv6, kIpv6Source + 4 * i);
  Append(&ipv6, BPF_LDX | BPF_IMM, kIpv6HeaderBytes);
  Append(&ipv6, BPF_JMP | BPF_JA, static_cast<uint32_t>(ipv4.size()));

  Program program;
  Append(&program, BPF_LD | BPF_IMM, start_);
  Append(&program, BPF_ST, 0);
  Append(&program, BPF_LD | BPF_B | BPF_ABS, kNetworkHeader);
  Append(&program, BPF_ALU | BPF_RSH | BPF_K, 4);
  program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 4,
                             static_cast<uint8_t>(ipv6.size()), 0));
  program.insert(program.end(), ipv6.begin(), ipv6.end());
  program.insert(program.end(), ipv4.begin(), ipv4.end());

  Append(&program, BPF_LD | BPF_H | BPF_IND, kNetworkHeader);
  Append(&program, BPF_LDX | BPF_MEM, 0);
  Append(&program, BPF_ALU | BPF_ADD | BPF_X, 0);
  Append(&program, BPF_ALU | BPF_MUL | BPF_K, port_multiplier_);
  AppendFold(&program, kPortShift);
  Append(&program, BPF_ALU | BPF_MUL | BPF_K, final_multiplier_);
  AppendFold(&program, kFinalShift);
  Append(&program, BPF_ALU | BPF_MOD | BPF_K, listener_count);
  Append(&program, BPF_RET | BPF_A, 0);
  return program;
}

}  // namespace internal
}  // namespace udpgate
