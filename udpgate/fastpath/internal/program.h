// The program in the kernel (fastpath.bpf.c) as an object: loads it, hangs it
// to interfaces, and gives access to its maps.
//
//   absl::StatusOr<std::unique_ptr<Program>> program = Program::Load(1000);
//   absl::Status status = (*program)->Attach(link, handle);
//
// Nothing is pinned: when the process ends, however it ends, the kernel closes
// the maps and takes off what hangs by a link (TCX, from kernel 6.6 on). On
// older kernels the filters stay, and pass everything up from two seconds later
// on (the lease).
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
#include "udpgate/internal/unique_fd.h"

struct bpf_object;

namespace udpgate {
namespace fastpath {
namespace internal {

// The place of our filters among those of an interface: in the order of
// priorities. A fixed one, so that a later run finds what this one leaves.
inline constexpr uint32_t kFilterPriority = 19132;

// True for a filter that some run of udpgate attached: by priority, kind and
// name.
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

// Threads: the map functions at any time from any thread; the others one at a
// time.
class Program {
 public:
  // Room for `sessions_max` sessions. PermissionDenied without CAP_BPF and
  // CAP_NET_ADMIN (capabilities(7)). Where `verifier_log` is given, the
  // kernel's account of the verification is put there, also after a failure.
  static absl::StatusOr<std::unique_ptr<Program>> Load(
      int sessions_max, std::string* verifier_log = nullptr,
      const udpgate_rewriting& rewriting = {});
  // With the maps of another one, as CopyMaps names them; the
  // descriptors stay the caller's. FailedPrecondition where they do not fit.
  static absl::StatusOr<std::unique_ptr<Program>> LoadWithMaps(
      int sessions_max,
      const std::map<std::string, udpgate::internal::UniqueFd>& maps,
      const udpgate_rewriting& rewriting);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // Hangs the program to an interface: by a link where `may_use_tcx` and the
  // kernel allow it, behind other programs with links and before all filters.
  // Else as a filter, for which it makes the ingress hook (clsact, tc-bpf(8))
  // where there is none; then the interface drops for some milliseconds what is
  // sent by it.
  absl::Status Attach(const Link& link, uint32_t handle, bool may_use_tcx);
  // Whether it hangs there by a link.
  bool HasTcxLink(int interface_index) const {
    return tcx_links_.count(interface_index) > 0;
  }
  // Goes on with a link there that another one has made.
  void AdoptLink(int interface_index, udpgate::internal::UniqueFd tcx_link) {
    tcx_links_[interface_index] = std::move(tcx_link);
  }
  // Puts this program in the place of the link's, without a gap. NotFound where
  // the interface is gone.
  absl::Status UpdateLink(const Link& link);
  // Copies of the descriptors of all maps, by name, and of the links, by
  // interface; fewer where there is no room for more descriptors.
  std::map<std::string, udpgate::internal::UniqueFd> CopyMaps() const;
  std::map<int, udpgate::internal::UniqueFd> CopyLinks() const;
  // Undoes Attach.
  absl::Status Detach(int interface_index, uint32_t handle);
  // The interface is gone.
  void Forget(int interface_index) { tcx_links_.erase(interface_index); }
  // Leaves the links to whoever has copies.
  void ForgetLinks() { tcx_links_.clear(); }

  // Takes a filter of ours off, and nothing else.
  static absl::Status RemoveFilter(int interface_index, uint32_t handle);

  // Directions: 2 a session, see layout.h.
  udpgate_flow& flow(uint32_t index) const {
    return flows_.records<udpgate_flow>()[index];
  }
  udpgate_activity& activity(uint32_t index) const {
    return activity_.records<udpgate_activity>()[index];
  }
  uint64_t* lease_nanoseconds() const { return lease_.records<uint64_t>(); }

  // AlreadyExists where another direction has this tuple, ResourceExhausted
  // where the kernel has no room.
  absl::Status AddToIndex(const udpgate_tuple& tuple, uint32_t index);
  // NotFound where it is not there.
  absl::Status RemoveFromIndex(const udpgate_tuple& tuple);

  // All that is there.
  std::vector<std::pair<udpgate_tuple, uint32_t>> Indexed() const;

  // How often a packet was passed up, by reason, since the program was loaded.
  std::array<uint64_t, UDPGATE_REASONS> PassedUp() const;

  // For tests: of the program for Ethernet.
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
  absl::Status SetRewriting(const udpgate_rewriting& rewriting);
  absl::Status UseMaps(const Maps& maps);
  int FdFor(const Link& link) const;
  absl::Status MapMemory(int sessions_max);
  int map_fd(const char* name) const;

  bpf_object* object_ = nullptr;
  int index_fd_ = -1;  // these belong to object_
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
