#include "udpgate/fastpath/internal/program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <net/if_arp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "udpgate/fastpath/internal/program_object.h"
#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/internal/util/mutex.h"

namespace udpgate {
namespace fastpath {
namespace internal {
namespace {

constexpr char kEthernetProgram[] = "udpgate_eth";
constexpr char kRawProgram[] = "udpgate_raw";
constexpr const char* kMapNames[] = {"udpgate_index", "udpgate_flows",
                                     "udpgate_activity", "udpgate_lease",
                                     "udpgate_counters"};
constexpr size_t kVerifierLogBytes = 1 << 20;
// BPF_TCX_INGRESS of linux/bpf.h, from kernel 6.6 on.
constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);

// libbpf prints to stderr by default, through one function per process. While
// this object exists, output of libbpf in this thread is collected for the text
// of the error. Output in other threads is not affected.
thread_local std::string* libbpf_output = nullptr;
libbpf_print_fn_t libbpf_print_before = nullptr;

int CollectOutput(libbpf_print_level level, const char* format,
                  va_list arguments) {
  if (libbpf_output == nullptr) {
    return libbpf_print_before == nullptr
               ? 0
               : libbpf_print_before(level, format, arguments);
  }
  if (level != LIBBPF_WARN) return 0;
  char line[1024];
  const int bytes = vsnprintf(line, sizeof(line), format, arguments);
  if (bytes > 0) libbpf_output->append(line);
  return bytes;
}

class ScopedOutput {
 public:
  ScopedOutput() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    mutex().Lock();
    libbpf_output = &text_;
    libbpf_print_before = libbpf_set_print(CollectOutput);
  }
  ~ScopedOutput() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    libbpf_set_print(libbpf_print_before);
    libbpf_output = nullptr;
    mutex().Unlock();
  }

  // The first line; the others are details.
  absl::string_view first_line() const {
    const absl::string_view text = text_;
    return absl::StripPrefix(text.substr(0, text.find('\n')), "libbpf: ");
  }

 private:
  static udpgate::internal::Mutex& mutex() {
    static udpgate::internal::Mutex* const mutex = new udpgate::internal::Mutex;
    return *mutex;
  }

  std::string text_;
};

bpf_tc_hook HookOf(int interface_index) {
  bpf_tc_hook hook;
  std::memset(&hook, 0, sizeof(hook));
  hook.sz = sizeof(hook);
  hook.ifindex = interface_index;
  hook.attach_point = BPF_TC_INGRESS;
  return hook;
}

bpf_tc_opts OptionsOf(uint32_t handle) {
  bpf_tc_opts options;
  std::memset(&options, 0, sizeof(options));
  options.sz = sizeof(options);
  options.handle = handle;
  options.priority = kFilterPriority;
  return options;
}

// It costs less for each packet.
bool HasCoarseClock() {
  return libbpf_probe_bpf_helper(BPF_PROG_TYPE_SCHED_CLS,
                                 BPF_FUNC_ktime_get_coarse_ns,
                                 /*opts=*/nullptr) == 1;
}

bool HasLinkHeader(uint16_t hardware) {
  return hardware == ARPHRD_ETHER || hardware == ARPHRD_LOOPBACK;
}

}  // namespace

bool IsOurs(const IngressFilter& filter) {
  // libbpf names a filter by the program and its number, "udpgate_eth:[7]".
  return filter.priority == kFilterPriority && filter.kind == "bpf" &&
         (absl::StartsWith(filter.name, absl::StrCat(kEthernetProgram, ":")) ||
          absl::StartsWith(filter.name, absl::StrCat(kRawProgram, ":")));
}

SharedMemory::~SharedMemory() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

absl::Status SharedMemory::Map(absl::string_view name, int map_fd,
                               size_t bytes) {
  const auto page_bytes = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  bytes_ = (bytes + page_bytes - 1) / page_bytes * page_bytes;
  void* const data =
      ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd, 0);
  if (data == MAP_FAILED) {
    return udpgate::internal::ErrnoToStatus(errno,
                                            absl::StrCat("mmap of map ", name));
  }
  data_ = data;
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Program>> Program::Load(
    int sessions_max, std::string* verifier_log,
    const udpgate_rewriting& rewriting) {
  return Load(sessions_max, /*maps=*/nullptr, verifier_log, rewriting);
}

absl::StatusOr<std::unique_ptr<Program>> Program::LoadWithMaps(
    int sessions_max, const Maps& maps, const udpgate_rewriting& rewriting) {
  return Load(sessions_max, &maps, /*verifier_log=*/nullptr, rewriting);
}

absl::StatusOr<std::unique_ptr<Program>> Program::Load(
    int sessions_max, const Maps* maps, std::string* verifier_log,
    const udpgate_rewriting& rewriting) {
  if (sessions_max < 1) {
    return absl::InvalidArgumentError("sessions_max must be 1 or more");
  }
  std::unique_ptr<Program> program(new Program);
  absl::Status status =
      program->OpenAndLoad(sessions_max, maps, verifier_log, rewriting);
  if (!status.ok()) return status;
  status = program->MapMemory(sessions_max);
  if (!status.ok()) return status;
  return program;
}

Program::~Program() { bpf_object__close(object_); }

absl::Status Program::OpenAndLoad(int sessions_max, const Maps* maps,
                                  std::string* verifier_log,
                                  const udpgate_rewriting& rewriting) {
  ScopedOutput output;
  bpf_object_open_opts options;
  std::memset(&options, 0, sizeof(options));
  options.sz = sizeof(options);
  options.object_name = "udpgate";
  object_ = bpf_object__open_mem(kProgramObject, kProgramObjectBytes, &options);
  if (object_ == nullptr) {
    return udpgate::internal::ErrnoToStatus(
        errno, absl::StrCat("open eBPF object: ", output.first_line()));
  }
  const auto directions = static_cast<uint32_t>(sessions_max) * 2;
  for (const char* name :
       {"udpgate_index", "udpgate_flows", "udpgate_activity"}) {
    bpf_map* const map = bpf_object__find_map_by_name(object_, name);
    const int error = bpf_map__set_max_entries(map, directions);
    if (error != 0) {
      return udpgate::internal::ErrnoToStatus(
          -error, absl::StrCat("set the size of eBPF map ", name));
    }
  }
  if (absl::Status status = SetConstants(rewriting); !status.ok()) {
    return status;
  }
  if (maps != nullptr) {
    if (absl::Status status = UseMaps(*maps); !status.ok()) return status;
  }
  // Both programs share the buffer; it holds the log of the last one.
  std::vector<char> log(verifier_log == nullptr ? 0 : kVerifierLogBytes);
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object_) {
    if (log.empty()) break;
    bpf_program__set_log_buf(program, log.data(), log.size());
    bpf_program__set_log_level(program, 1 | 4);  // steps and statistics
  }
  const int error = bpf_object__load(object_);
  if (!log.empty()) {
    *verifier_log = std::string(log.data(), strnlen(log.data(), log.size()));
  }
  if (error == 0) return absl::OkStatus();
  if (error == -EPERM) {
    // libbpf's own text is about RLIMIT_MEMLOCK, which it tries to raise first.
    return absl::PermissionDeniedError(
        "no permission to load an eBPF program; the process needs CAP_BPF and "
        "CAP_NET_ADMIN");
  }
  return udpgate::internal::ErrnoToStatus(
      -error, absl::StrCat("load eBPF object: ", output.first_line()));
}

// libbpf keeps the program's constants in a map, which has no other content.
absl::Status Program::SetConstants(const udpgate_rewriting& rewriting) {
  const udpgate_constants constants = {rewriting, HasCoarseClock()};
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object_) {
    if (!absl::EndsWith(bpf_map__name(map), ".rodata")) continue;
    const int error =
        bpf_map__set_initial_value(map, &constants, sizeof(constants));
    if (error == 0) return absl::OkStatus();
    return udpgate::internal::ErrnoToStatus(
        -error, "set the constants of the eBPF program");
  }
  return absl::InternalError("the eBPF program has no constants");
}

absl::Status Program::UseMaps(const Maps& maps) {
  for (const char* name : kMapNames) {
    bpf_map* const map = bpf_object__find_map_by_name(object_, name);
    const auto found = maps.find(name);
    bpf_map_info info;
    std::memset(&info, 0, sizeof(info));
    uint32_t bytes = sizeof(info);
    if (found == maps.end() ||
        bpf_obj_get_info_by_fd(found->second.get(), &info, &bytes) != 0 ||
        info.type != bpf_map__type(map) ||
        info.key_size != bpf_map__key_size(map) ||
        info.value_size != bpf_map__value_size(map) ||
        info.max_entries != bpf_map__max_entries(map) ||
        info.map_flags != bpf_map__map_flags(map)) {
      return absl::FailedPreconditionError(
          absl::StrCat("the map ", name, " has another layout or size"));
    }
    const int error = bpf_map__reuse_fd(map, found->second.get());
    if (error != 0) {
      return udpgate::internal::ErrnoToStatus(-error,
                                              absl::StrCat("reuse map ", name));
    }
  }
  return absl::OkStatus();
}

Program::Maps Program::CopyMaps() const {
  Maps copies;
  for (const char* name : kMapNames) {
    udpgate::internal::UniqueFd copy(::fcntl(map_fd(name), F_DUPFD_CLOEXEC, 0));
    if (copy.is_open()) copies[name] = std::move(copy);
  }
  return copies;
}

std::map<int, udpgate::internal::UniqueFd> Program::CopyLinks() const {
  std::map<int, udpgate::internal::UniqueFd> copies;
  for (const auto& [index, link] : tcx_links_) {
    udpgate::internal::UniqueFd copy(::fcntl(link.get(), F_DUPFD_CLOEXEC, 0));
    if (copy.is_open()) copies[index] = std::move(copy);
  }
  return copies;
}

int Program::map_fd(const char* name) const {
  return bpf_map__fd(bpf_object__find_map_by_name(object_, name));
}

absl::Status Program::MapMemory(int sessions_max) {
  index_fd_ = map_fd("udpgate_index");
  counters_fd_ = map_fd("udpgate_counters");
  const auto directions = static_cast<size_t>(sessions_max) * 2;
  absl::Status status = flows_.Map("udpgate_flows", map_fd("udpgate_flows"),
                                   directions * sizeof(udpgate_flow));
  if (!status.ok()) return status;
  status = activity_.Map("udpgate_activity", map_fd("udpgate_activity"),
                         directions * sizeof(udpgate_activity));
  if (!status.ok()) return status;
  return lease_.Map("udpgate_lease", map_fd("udpgate_lease"), sizeof(uint64_t));
}

int Program::FdFor(const Link& link) const {
  return bpf_program__fd(bpf_object__find_program_by_name(
      object_, HasLinkHeader(link.hardware) ? kEthernetProgram : kRawProgram));
}

absl::Status Program::UpdateLink(const Link& link) {
  const auto found = tcx_links_.find(link.index);
  if (found == tcx_links_.end() ||
      bpf_link_update(found->second.get(), FdFor(link), nullptr) != 0) {
    const int error = found == tcx_links_.end() ? ENOENT : errno;
    return udpgate::internal::ErrnoToStatus(
        error == ENOLINK ? ENOENT : error,
        absl::StrCat("replace the eBPF program on ", link.name));
  }
  return absl::OkStatus();
}

absl::Status Program::Attach(const Link& link, uint32_t handle,
                             bool may_use_tcx) {
  ScopedOutput output;
  const int program_fd = FdFor(link);
  if (may_use_tcx) {
    udpgate::internal::UniqueFd tcx_link(
        bpf_link_create(program_fd, link.index, kTcxIngress, nullptr));
    if (tcx_link.is_open()) {
      tcx_links_[link.index] = std::move(tcx_link);
      return absl::OkStatus();
    }
  }
  bpf_tc_hook hook = HookOf(link.index);
  int error = bpf_tc_hook_create(&hook);
  if (error != 0 && error != -EEXIST) {
    return udpgate::internal::ErrnoToStatus(
        -error, absl::StrCat("clsact on ", link.name));
  }
  bpf_tc_opts options = OptionsOf(handle);
  options.flags = BPF_TC_F_REPLACE;
  options.prog_fd = program_fd;
  error = bpf_tc_attach(&hook, &options);
  if (error == 0) return absl::OkStatus();
  return udpgate::internal::ErrnoToStatus(
      -error, absl::StrCat("attach eBPF program to ", link.name));
}

absl::Status Program::Detach(int interface_index, uint32_t handle) {
  if (tcx_links_.erase(interface_index) > 0) return absl::OkStatus();
  return RemoveFilter(interface_index, handle);
}

absl::Status Program::RemoveFilter(int interface_index, uint32_t handle) {
  ScopedOutput output;
  const bpf_tc_hook hook = HookOf(interface_index);
  const bpf_tc_opts options = OptionsOf(handle);
  const int error = bpf_tc_detach(&hook, &options);
  if (error == 0) return absl::OkStatus();
  return udpgate::internal::ErrnoToStatus(
      -error,
      absl::StrCat("detach eBPF program from interface ", interface_index));
}

absl::Status Program::AddToIndex(const udpgate_tuple& tuple, uint32_t index) {
  if (bpf_map_update_elem(index_fd_, &tuple, &index, BPF_NOEXIST) == 0) {
    return absl::OkStatus();
  }
  if (errno == EEXIST) {
    return absl::AlreadyExistsError("another session has these addresses");
  }
  if (errno == E2BIG || errno == ENOMEM) {
    return absl::ResourceExhaustedError(
        "no room for another flow in the kernel");
  }
  return udpgate::internal::ErrnoToStatus(errno, "add a flow");
}

absl::Status Program::RemoveFromIndex(const udpgate_tuple& tuple) {
  if (bpf_map_delete_elem(index_fd_, &tuple) == 0) return absl::OkStatus();
  return udpgate::internal::ErrnoToStatus(errno, "remove a flow");
}

std::vector<std::pair<udpgate_tuple, uint32_t>> Program::Indexed() const {
  std::vector<std::pair<udpgate_tuple, uint32_t>> entries;
  udpgate_tuple tuple;
  const udpgate_tuple* before = nullptr;  // start with the first entry
  while (bpf_map_get_next_key(index_fd_, before, &tuple) == 0) {
    uint32_t index = 0;
    if (bpf_map_lookup_elem(index_fd_, &tuple, &index) == 0) {
      entries.emplace_back(tuple, index);
    }
    before = &tuple;
  }
  return entries;
}

std::array<uint64_t, UDPGATE_REASONS> Program::PassedUp() const {
  std::array<uint64_t, UDPGATE_REASONS> sums{};
  const int processors = libbpf_num_possible_cpus();
  if (processors < 1) return sums;
  std::vector<uint64_t> values(static_cast<size_t>(processors));
  for (uint32_t reason = 0; reason < UDPGATE_REASONS; ++reason) {
    if (bpf_map_lookup_elem(counters_fd_, &reason, values.data()) != 0) {
      continue;
    }
    for (const uint64_t value : values) sums[reason] += value;
  }
  return sums;
}

int Program::program_fd() const {
  return bpf_program__fd(
      bpf_object__find_program_by_name(object_, kEthernetProgram));
}

}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate
