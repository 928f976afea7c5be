#include "udpgate/fastpath/internal/flow_table.h"

#include <arpa/inet.h>

#include <cstring>
#include <set>
#include <vector>

namespace udpgate {
namespace fastpath {
namespace internal {
namespace {

// Whole cache lines, and no padding: tuples are compared as bytes.
static_assert(sizeof(udpgate_tuple) == 40, "layout.h");
static_assert(sizeof(udpgate_flow) == 128, "layout.h");
static_assert(sizeof(udpgate_activity) == 64, "layout.h");

// Stores a number that the program or another thread may read at any time.
template <typename Number>
void Publish(Number* to, Number value) {
  __atomic_store_n(to, value, __ATOMIC_RELEASE);
}

template <typename Number>
Number Load(const Number* from) {
  return __atomic_load_n(from, __ATOMIC_ACQUIRE);
}

// From Take to GiveBack a limit only decreases, so the order of path MTU,
// installation and removal (0) does not matter.
void Lower(__u32* limit, uint32_t bytes) {
  __u32 now = Load(limit);
  while (bytes < now &&
         !__atomic_compare_exchange_n(limit, &now, bytes, /*weak=*/true,
                                      __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
  }
}

// Writes all fields except those that workers write.
void Write(const udpgate_tuple& expected, const udpgate_tuple& rewritten,
           const Exit& exit, udpgate_flow* flow) {
  flow->expected = expected;
  flow->rewritten = rewritten;
  flow->interface_index = exit.interface_index;
  flow->is_loopback = exit.is_loopback ? 1 : 0;
  flow->next_hop = exit.next_hop;
  // The two addresses are adjacent in memory, and so are the two ports.
  flow->address_difference =
      ChecksumDifference(expected.source, rewritten.source, 32);
  flow->port_difference = ChecksumDifference(
      reinterpret_cast<const uint8_t*>(&expected.source_port),
      reinterpret_cast<const uint8_t*>(&rewritten.source_port), 4);
  Lower(&flow->packet_bytes_max, exit.packet_bytes_max);
}

Exit ExitOf(const udpgate_flow& flow) {
  Exit exit;
  exit.interface_index = flow.interface_index;
  exit.packet_bytes_max = Load(&flow.packet_bytes_max);
  exit.is_loopback = flow.is_loopback != 0;
  exit.next_hop = flow.next_hop;
  return exit;
}

bool IsSame(const udpgate_tuple& a, const udpgate_tuple& b) {
  return std::memcmp(&a, &b, sizeof(a)) == 0;
}

udpgate_tuple Reverse(const udpgate_tuple& tuple) {
  udpgate_tuple reversed = tuple;
  std::memcpy(reversed.source, tuple.destination, 16);
  std::memcpy(reversed.destination, tuple.source, 16);
  reversed.source_port = tuple.destination_port;
  reversed.destination_port = tuple.source_port;
  return reversed;
}

DirectionActivity Read(const udpgate_activity& record) {
  DirectionActivity activity;
  activity.datagrams = Load(&record.datagrams);
  activity.payload_bytes = Load(&record.payload_bytes);
  activity.last_relayed_nanoseconds =
      static_cast<int64_t>(Load(&record.last_relayed_nanoseconds));
  return activity;
}

void AddDifference(const DirectionActivity& now,
                   const DirectionActivity& counted, DirectionActivity* sum) {
  sum->datagrams += now.datagrams - counted.datagrams;
  sum->payload_bytes += now.payload_bytes - counted.payload_bytes;
}

void AddDifference(const SessionActivity& now, const SessionActivity& counted,
                   SessionActivity* sum) {
  AddDifference(now.from_client, counted.from_client, &sum->from_client);
  AddDifference(now.from_backend, counted.from_backend, &sum->from_backend);
}

// Requests in the queue: slot and kind in one number.
constexpr uint32_t TakenRequest(uint32_t slot) { return slot * 2; }
constexpr uint32_t GivenBackRequest(uint32_t slot) { return slot * 2 + 1; }

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

FlowTable::FlowTable(Program* program, int sessions_max, bool is_adopting)
    : program_(program),
      slots_(static_cast<size_t>(sessions_max)),
      phases_(static_cast<size_t>(sessions_max)),
      free_(static_cast<uint32_t>(sessions_max)),
      requests_(2 * static_cast<size_t>(sessions_max)) {
  if (is_adopting) return;
  for (uint32_t slot = static_cast<uint32_t>(sessions_max); slot > 0;) {
    free_.Put(--slot);
  }
}

absl::optional<uint32_t> FlowTable::Take(const SessionAddresses& addresses) {
  const absl::optional<uint32_t> slot = free_.Take();
  if (!slot.has_value()) return absl::nullopt;
  slots_[*slot].addresses = addresses;
  for (const FlowDirection direction :
       {FlowDirection::kFromClient, FlowDirection::kFromBackend}) {
    std::memset(&activity(*slot, direction), 0, sizeof(udpgate_activity));
    Publish<__u64>(&flow(*slot, direction).handled_nanoseconds, 0);
    Publish<__u32>(&flow(*slot, direction).packet_bytes_max, UINT32_MAX);
  }
  phases_[*slot].store(Phase::kWaiting, std::memory_order_release);
  requests_.Push(TakenRequest(*slot));
  return slot;
}

FlowState FlowTable::state(uint32_t slot) const {
  switch (phases_[slot].load(std::memory_order_acquire)) {
    case Phase::kWaiting:
      return FlowState::kWaiting;
    case Phase::kInstalled:
      return FlowState::kInstalled;
    case Phase::kWithdrawn:
      return FlowState::kWithdrawn;
    default:
      return FlowState::kRefused;
  }
}

void FlowTable::PublishHandled(uint32_t slot, FlowDirection direction,
                               int64_t receive_time_nanoseconds) {
  Publish<__u64>(&flow(slot, direction).handled_nanoseconds,
                 static_cast<uint64_t>(receive_time_nanoseconds));
}

void FlowTable::LowerPacketBytesMax(uint32_t slot, FlowDirection direction,
                                    uint32_t bytes) {
  Lower(&flow(slot, direction).packet_bytes_max, bytes);
}

SessionActivity FlowTable::ReadActivity(uint32_t slot) const {
  return {Read(activity(slot, FlowDirection::kFromClient)),
          Read(activity(slot, FlowDirection::kFromBackend))};
}

SessionActivity FlowTable::GiveBack(uint32_t slot) {
  PassUp(slot);
  const SessionActivity counted = ReadActivity(slot);
  slots_[slot].counted = counted;
  phases_[slot].store(Phase::kRemoved, std::memory_order_release);
  requests_.Push(GivenBackRequest(slot));
  return counted;
}

void FlowTable::PassUp(uint32_t slot) {
  LowerPacketBytesMax(slot, FlowDirection::kFromClient, 0);
  LowerPacketBytesMax(slot, FlowDirection::kFromBackend, 0);
}

absl::optional<FlowTable::Request> FlowTable::NextRequest() {
  for (;;) {
    const absl::optional<uint32_t> request = requests_.Pop();
    if (!request.has_value()) return absl::nullopt;
    const uint32_t slot = *request / 2;
    if (*request == GivenBackRequest(slot)) return Request{slot, true};
    // Else the slot was given back in the meantime, and that request follows.
    if (phases_[slot].load(std::memory_order_acquire) == Phase::kWaiting) {
      return Request{slot, false};
    }
  }
}

bool FlowTable::MoveTo(Phase phase, uint32_t slot) {
  Phase now = phases_[slot].load(std::memory_order_acquire);
  while (now != Phase::kRemoved) {
    if (phases_[slot].compare_exchange_weak(
            now, phase, std::memory_order_acq_rel, std::memory_order_acquire)) {
      return true;
    }
  }
  return false;
}

bool FlowTable::Adopt(uint32_t slot, const SessionAddresses& addresses) {
  if (slot >= slots_.size() ||
      phases_[slot].load(std::memory_order_relaxed) != Phase::kFree) {
    return false;
  }
  const udpgate_flow& there = flow(slot, FlowDirection::kFromClient);
  const udpgate_flow& back = flow(slot, FlowDirection::kFromBackend);
  // With a wildcard listener, `listen` may not be the address that the client
  // sends to.
  const udpgate_tuple to_client = MakeTuple(addresses.client, addresses.client);
  const bool is_its_own =
      IsSame(there.rewritten, MakeTuple(addresses.relay, addresses.backend)) &&
      IsSame(back.expected, MakeTuple(addresses.backend, addresses.relay)) &&
      IsSame(there.expected, Reverse(back.rewritten)) &&
      there.expected.family == to_client.family &&
      there.expected.source_port == to_client.source_port &&
      std::memcmp(there.expected.source, to_client.source, 16) == 0;
  if (!is_its_own || Load(&there.packet_bytes_max) == 0 ||
      Load(&back.packet_bytes_max) == 0) {
    return false;
  }
  Slot& adopted = slots_[slot];
  adopted.addresses = addresses;
  adopted.is_indexed = true;
  adopted.must_rest = true;
  adopted.to_backend = ExitOf(there);
  adopted.to_client = ExitOf(back);
  phases_[slot].store(Phase::kInstalled, std::memory_order_release);
  return true;
}

void FlowTable::FinishAdoption(int64_t now_nanoseconds) {
  for (uint32_t slot = 0; slot < slots_.size(); ++slot) {
    if (!slots_[slot].is_indexed) PassUp(slot);
  }
  std::vector<bool> has_entry(slots_.size() * 2);
  for (const auto& [tuple, index] : program_->Indexed()) {
    const uint32_t slot = index / 2;
    if (slot < slots_.size() && slots_[slot].is_indexed &&
        IsSame(tuple, program_->flow(index).expected)) {
      has_entry[index] = true;
    } else {
      program_->RemoveFromIndex(tuple).IgnoreError();
    }
  }
  // Backwards, so that the lowest slot is taken first.
  for (auto slot = static_cast<uint32_t>(slots_.size()); slot > 0;) {
    --slot;
    if (slots_[slot].is_indexed) {
      if (has_entry[slot * 2] && has_entry[slot * 2 + 1]) continue;
      Withdraw(slot);
    } else if (flow(slot, FlowDirection::kFromClient).expected.family != 0) {
      slots_[slot].counted = ReadActivity(slot);  // by the other process
      resting_.push_back({slot, now_nanoseconds + kRestNanoseconds});
    } else {
      free_.Put(slot);
    }
  }
}

std::set<int> FlowTable::ExitInterfaces() const {
  std::set<int> interfaces;
  for (const Slot& slot : slots_) {
    if (!slot.is_indexed) continue;
    interfaces.insert(static_cast<int>(slot.to_backend.interface_index));
    interfaces.insert(static_cast<int>(slot.to_client.interface_index));
  }
  return interfaces;
}

absl::Status FlowTable::Add(uint32_t slot, const Exit& to_backend,
                            const Exit& to_client) {
  Slot& taken = slots_[slot];
  WriteRecords(slot, to_backend, to_client);
  const udpgate_tuple& from_client =
      flow(slot, FlowDirection::kFromClient).expected;
  absl::Status status = program_->AddToIndex(from_client, slot * 2);
  if (status.ok()) {
    taken.must_rest = true;  // from here on the program may have read it
    status = program_->AddToIndex(
        flow(slot, FlowDirection::kFromBackend).expected, slot * 2 + 1);
    if (!status.ok()) program_->RemoveFromIndex(from_client).IgnoreError();
  }
  if (!status.ok()) {
    Refuse(slot);
    return status;
  }
  taken.is_indexed = true;
  taken.to_backend = to_backend;
  taken.to_client = to_client;
  MoveTo(Phase::kInstalled, slot);
  return absl::OkStatus();
}

void FlowTable::Refuse(uint32_t slot) { MoveTo(Phase::kRefused, slot); }

void FlowTable::WriteRecords(uint32_t slot, const Exit& to_backend,
                             const Exit& to_client) {
  const SessionAddresses& addresses = slots_[slot].addresses;
  Write(MakeTuple(addresses.client, addresses.listen),
        MakeTuple(addresses.relay, addresses.backend), to_backend,
        &flow(slot, FlowDirection::kFromClient));
  Write(MakeTuple(addresses.backend, addresses.relay),
        MakeTuple(addresses.listen, addresses.client), to_client,
        &flow(slot, FlowDirection::kFromBackend));
}

void FlowTable::RemoveFromIndex(uint32_t slot) {
  if (!slots_[slot].is_indexed) return;
  slots_[slot].is_indexed = false;
  for (const FlowDirection direction :
       {FlowDirection::kFromClient, FlowDirection::kFromBackend}) {
    // Nobody else removes entries, so this cannot fail with NotFound.
    program_->RemoveFromIndex(flow(slot, direction).expected).IgnoreError();
  }
}

int FlowTable::WithdrawWhere(
    absl::FunctionRef<bool(const SessionAddresses&, const Exit&, const Exit&)>
        concerns) {
  int withdrawn = 0;
  for (uint32_t slot = 0; slot < slots_.size(); ++slot) {
    const Slot& taken = slots_[slot];
    if (!taken.is_indexed ||
        !concerns(taken.addresses, taken.to_backend, taken.to_client)) {
      continue;
    }
    if (Withdraw(slot)) ++withdrawn;
  }
  return withdrawn;
}

bool FlowTable::Withdraw(uint32_t slot) {
  PassUp(slot);
  RemoveFromIndex(slot);
  return MoveTo(Phase::kWithdrawn, slot);
}

void FlowTable::Clear(uint32_t slot, int64_t now_nanoseconds) {
  RemoveFromIndex(slot);
  if (slots_[slot].must_rest) {
    resting_.push_back({slot, now_nanoseconds + kRestNanoseconds});
  } else {
    Free(slot);
  }
}

void FlowTable::FreeRested(int64_t now_nanoseconds) {
  while (!resting_.empty() &&
         resting_.front().end_nanoseconds <= now_nanoseconds) {
    Free(resting_.front().slot);
    resting_.pop_front();
  }
}

void FlowTable::Free(uint32_t slot) {
  AddDifference(ReadActivity(slot), slots_[slot].counted, &late_);
  slots_[slot].must_rest = false;
  phases_[slot].store(Phase::kFree, std::memory_order_relaxed);
  free_.Put(slot);
}

SessionActivity FlowTable::LateActivity() const {
  SessionActivity sum = late_;
  for (uint32_t slot = 0; slot < slots_.size(); ++slot) {
    if (phases_[slot].load(std::memory_order_acquire) == Phase::kRemoved) {
      AddDifference(ReadActivity(slot), slots_[slot].counted, &sum);
    }
  }
  return sum;
}

}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate
