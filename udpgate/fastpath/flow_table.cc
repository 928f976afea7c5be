#include "udpgate/fastpath/flow_table.h"

#include <arpa/inet.h>

#include <cstring>

namespace udpgate {
namespace fastpath {
namespace {

// Whole cache lines, and no bytes that a comparison of tuples would not expect.
static_assert(sizeof(udpgate_tuple) == 40, "layout.h");
static_assert(sizeof(udpgate_flow) == 128, "layout.h");
static_assert(sizeof(udpgate_activity) == 64, "layout.h");

void Write(const udpgate_tuple& expected, const udpgate_tuple& rewritten,
           const Exit& exit, udpgate_flow* flow) {
  std::memset(flow, 0, sizeof(*flow));
  flow->expected = expected;
  flow->rewritten = rewritten;
  flow->interface_index = exit.interface_index;
  flow->packet_bytes_max = exit.packet_bytes_max;
  flow->is_loopback = exit.is_loopback ? 1 : 0;
  // The two addresses lie side by side, and so do the two ports.
  flow->address_difference =
      ChecksumDifference(expected.source, rewritten.source, 32);
  flow->port_difference = ChecksumDifference(
      reinterpret_cast<const uint8_t*>(&expected.source_port),
      reinterpret_cast<const uint8_t*>(&rewritten.source_port), 4);
}

}  // namespace

uint32_t ChecksumDifference(const uint8_t* before, const uint8_t* after,
                            int bytes) {
  uint32_t sum = 0;
  for (int i = 0; i < bytes; i += 2) {
    uint16_t old_word, new_word;
    std::memcpy(&old_word, before + i, 2);
    std::memcpy(&new_word, after + i, 2);
    sum += static_cast<uint16_t>(~old_word);
    sum += new_word;
  }
  while (sum > 0xFFFF) sum = (sum & 0xFFFF) + (sum >> 16);
  return sum;
}

udpgate_tuple MakeTuple(const SocketAddress& source,
                        const SocketAddress& destination) {
  udpgate_tuple tuple;
  std::memset(&tuple, 0, sizeof(tuple));
  std::memcpy(tuple.source, source.ip_bytes().data(), 16);
  std::memcpy(tuple.destination, destination.ip_bytes().data(), 16);
  tuple.source_port = htons(source.port());
  tuple.destination_port = htons(destination.port());
  tuple.family = source.is_ipv4() ? 4 : 6;
  return tuple;
}

FlowTable::FlowTable(Program* program, int sessions_max)
    : program_(program), slots_(static_cast<size_t>(sessions_max)) {
  for (uint32_t slot = 0; slot < slots_.size(); ++slot) {
    resting_.push_back(slot);
  }
}

absl::StatusOr<uint32_t> FlowTable::Add(const SessionAddresses& addresses,
                                        const Exit& to_backend,
                                        const Exit& to_client,
                                        int64_t now_nanoseconds) {
  if (resting_.empty() ||
      slots_[resting_.front()].free_at_nanoseconds > now_nanoseconds) {
    return absl::ResourceExhaustedError("no free slot for a flow");
  }
  const uint32_t slot = resting_.front();
  WriteRecords(slot, addresses, to_backend, to_client);
  const udpgate_tuple& from_client =
      flow(slot, FlowDirection::kFromClient).expected;
  absl::Status status = program_->AddToIndex(from_client, slot * 2);
  if (!status.ok()) return status;
  status = program_->AddToIndex(
      flow(slot, FlowDirection::kFromBackend).expected, slot * 2 + 1);
  if (!status.ok()) {
    program_->RemoveFromIndex(from_client).IgnoreError();
    // The program may have seen the first half.
    slots_[slot].free_at_nanoseconds = now_nanoseconds + kRestNanoseconds;
    resting_.pop_front();
    resting_.push_back(slot);
    return status;
  }
  resting_.pop_front();
  Slot& taken = slots_[slot];
  taken.in_use = true;
  taken.withdrawn.store(false, std::memory_order_release);
  taken.addresses = addresses;
  taken.to_backend = to_backend;
  taken.to_client = to_client;
  return slot;
}

void FlowTable::WriteRecords(uint32_t slot, const SessionAddresses& addresses,
                             const Exit& to_backend, const Exit& to_client) {
  Write(MakeTuple(addresses.client, addresses.listen),
        MakeTuple(addresses.relay, addresses.backend), to_backend,
        &flow(slot, FlowDirection::kFromClient));
  Write(MakeTuple(addresses.backend, addresses.relay),
        MakeTuple(addresses.listen, addresses.client), to_client,
        &flow(slot, FlowDirection::kFromBackend));
  for (const FlowDirection direction :
       {FlowDirection::kFromClient, FlowDirection::kFromBackend}) {
    std::memset(&activity(slot, direction), 0, sizeof(udpgate_activity));
  }
}

void FlowTable::Withdraw(uint32_t slot) {
  Slot& taken = slots_[slot];
  if (!taken.in_use || taken.withdrawn.load(std::memory_order_relaxed)) return;
  for (const FlowDirection direction :
       {FlowDirection::kFromClient, FlowDirection::kFromBackend}) {
    // NotFound cannot be: nobody else removes it, and nothing else fails.
    program_->RemoveFromIndex(flow(slot, direction).expected).IgnoreError();
  }
  taken.withdrawn.store(true, std::memory_order_release);
}

void FlowTable::Release(uint32_t slot, int64_t now_nanoseconds) {
  Slot& taken = slots_[slot];
  if (!taken.in_use) return;
  Withdraw(slot);
  taken.in_use = false;
  taken.free_at_nanoseconds = now_nanoseconds + kRestNanoseconds;
  resting_.push_back(slot);
}

int FlowTable::WithdrawWhere(
    absl::FunctionRef<bool(const SessionAddresses&, const Exit&, const Exit&)>
        concerns) {
  int withdrawn = 0;
  for (uint32_t slot = 0; slot < slots_.size(); ++slot) {
    const Slot& taken = slots_[slot];
    if (!taken.in_use || taken.withdrawn.load(std::memory_order_relaxed) ||
        !concerns(taken.addresses, taken.to_backend, taken.to_client)) {
      continue;
    }
    Withdraw(slot);
    ++withdrawn;
  }
  return withdrawn;
}

}  // namespace fastpath
}  // namespace udpgate
