// The eBPF program (fastpath.bpf.c) as an object: loads it, attaches it to
// interfaces, and gives access to its maps.
//
//   absl::StatusOr<std::unique_ptr<Program>> program = Program::Load(1000);
//   absl::Status status = (*program)->Attach(link, handle);
//
// Nothing is pinned. When the process ends, for whatever reason, the kernel
// closes the maps and removes the links (TCX, from kernel 6.6 on). On older
// kernels the filters stay; they pass all packets up once the lease of two
// seconds has ended.
#ifndef UDPGATE_FASTPATH_INTERNAL_PROGRAM_H_
#define UDPGATE_FASTPATH_INTERNAL_PROGRAM_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "udpgate/fastpath/internal/layout.h"
#include "udpgate/fastpath/internal/netlink.h"
#include "udpgate/internal/util/unique_fd.h"

struct bpf_object;

namespace udpgate {
namespace fastpath {
namespace internal {

// The priority of our filters on an interface. Fixed, so that a later run finds
// filters that this one leaves behind.
inline constexpr uint32_t kFilterPriority = 19132;

// True for a filter that a run of udpgate attached: by priority, kind and name.
bool IsOurs(const IngressFilter& filter);

// A map's memory, shared with the kernel.
class SharedMemory {
 public:
  SharedMemory() = default;
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  absl::Status Map(absl::string_view name, int map_fd, size_t bytes);
  template <typename Record>
  Record* records() const {
    return static_cast<Record*>(data_);
  }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

// Threads: the map functions from any thread at any time; the others one at a
// time.
class Program {
 public:
  // Room for `sessions_max` sessions. PermissionDenied without CAP_BPF and
  // CAP_NET_ADMIN (capabilities(7)). Writes the verifier's log to
  // `verifier_log` if it is not nullptr, also after a failure.
  static absl::StatusOr<std::unique_ptr<Program>> Load(
      int sessions_max, std::string* verifier_log = nullptr,
      const udpgate_rewriting& rewriting = {});
  // Uses the maps of another Program, named as in CopyMaps. The caller keeps
  // the descriptors. FailedPrecondition if their layout or size differs.
  static absl::StatusOr<std::unique_ptr<Program>> LoadWithMaps(
      int sessions_max,
      const std::map<std::string, udpgate::internal::UniqueFd>& maps,
      const udpgate_rewriting& rewriting);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // Attaches the program to an interface: by a link if `may_use_tcx` and the
  // kernel allow it, after other links and before all filters. Else as a
  // filter. A filter needs the ingress hook (clsact, tc-bpf(8)). If Attach has
  // to create it, the interface drops outgoing packets for some milliseconds.
  absl::Status Attach(const Link& link, uint32_t handle, bool may_use_tcx);
  // True if the program is attached there by a link.
  bool HasTcxLink(int interface_index) const {
    return tcx_links_.count(interface_index) > 0;
  }
  // Takes ownership of a link that another process created.
  void AdoptLink(int interface_index, udpgate::internal::UniqueFd tcx_link) {
    tcx_links_[interface_index] = std::move(tcx_link);
  }
  // Replaces the link's program with this one, without a gap. NotFound if the
  // interface no longer exists.
  absl::Status UpdateLink(const Link& link);
  // Copies of the descriptors of all maps, by name, and of the links, by
  // interface. Fewer if the process has no descriptors left.
  std::map<std::string, udpgate::internal::UniqueFd> CopyMaps() const;
  std::map<int, udpgate::internal::UniqueFd> CopyLinks() const;
  // Undoes Attach.
  absl::Status Detach(int interface_index, uint32_t handle);
  // The interface was removed.
  void Forget(int interface_index) { tcx_links_.erase(interface_index); }
  // Closes the links without detaching: another process has copies.
  void ForgetLinks() { tcx_links_.clear(); }

  // Removes one filter of ours.
  static absl::Status RemoveFilter(int interface_index, uint32_t handle);

  // Two directions per session, see layout.h.
  udpgate_flow& flow(uint32_t index) const {
    return flows_.records<udpgate_flow>()[index];
  }
  udpgate_activity& activity(uint32_t index) const {
    return activity_.records<udpgate_activity>()[index];
  }
  uint64_t* lease_nanoseconds() const { return lease_.records<uint64_t>(); }

  // AlreadyExists if another direction has this tuple, ResourceExhausted if the
  // kernel has no room.
  absl::Status AddToIndex(const udpgate_tuple& tuple, uint32_t index);
  // NotFound if it is not in the index.
  absl::Status RemoveFromIndex(const udpgate_tuple& tuple);

  // All entries of the index.
  std::vector<std::pair<udpgate_tuple, uint32_t>> Indexed() const;

  // Number of packets that were passed up since the program was loaded, by
  // reason.
  std::array<uint64_t, UDPGATE_REASONS> PassedUp() const;

  // For tests: the descriptor of the program for Ethernet.
  int program_fd() const;

 private:
  Program() = default;

  using Maps = std::map<std::string, udpgate::internal::UniqueFd>;
  static absl::StatusOr<std::unique_ptr<Program>> Load(
      int sessions_max, const Maps* maps, std::string* verifier_log,
      const udpgate_rewriting& rewriting);
  absl::Status OpenAndLoad(int sessions_max, const Maps* maps,
                           std::string* verifier_log,
                           const udpgate_rewriting& rewriting);
  absl::Status SetConstants(const udpgate_rewriting& rewriting);
  absl::Status UseMaps(const Maps& maps);
  int FdFor(const Link& link) const;
  absl::Status MapMemory(int sessions_max);
  int map_fd(const char* name) const;

  bpf_object* object_ = nullptr;
  int index_fd_ = -1;  // owned by object_, like counters_fd_
  int counters_fd_ = -1;
  std::map<int, udpgate::internal::UniqueFd> tcx_links_;  // by interface
  SharedMemory flows_;
  SharedMemory activity_;
  SharedMemory lease_;
};

}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate

#endif  // UDPGATE_FASTPATH_INTERNAL_PROGRAM_H_
