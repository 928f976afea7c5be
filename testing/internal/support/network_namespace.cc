#include "testing/internal/support/network_namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "udpgate/internal/net/sys_calls.h"

namespace udpgate {
namespace test {
namespace {

internal::UniqueFd OpenOwnNamespace() {
  return internal::UniqueFd(
      ::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
}

std::string RunShell(const std::string& line, int* status) {
  std::string output;
  FILE* const pipe = ::popen(absl::StrCat("{ ", line, "; } 2>&1").c_str(), "r");
  if (pipe == nullptr) {
    *status = -1;
    return "popen failed";
  }
  char buffer[4096];
  size_t bytes = 0;
  while ((bytes = ::fread(buffer, 1, sizeof(buffer), pipe)) > 0) {
    output.append(buffer, bytes);
  }
  *status = ::pclose(pipe);
  return output;
}

}  // namespace

absl::StatusOr<std::unique_ptr<NetworkNamespace>> NetworkNamespace::Create() {
  internal::UniqueFd fd;
  int error = 0;
  // In another thread, so that this one stays in its namespace.
  std::thread([&] {
    if (::unshare(CLONE_NEWNET) != 0) {
      error = errno;
      return;
    }
    fd = OpenOwnNamespace();
  }).join();
  if (error != 0) {
    return internal::ErrnoToStatus(error, "new network namespace");
  }
  return std::unique_ptr<NetworkNamespace>(new NetworkNamespace(std::move(fd)));
}

void NetworkNamespace::Enter() const {
  if (::setns(fd_.get(), CLONE_NEWNET) != 0) {
    ::perror("setns");
    ::abort();
  }
}

void NetworkNamespace::Run(absl::FunctionRef<void()> body) const {
  const internal::UniqueFd before = OpenOwnNamespace();
  Enter();
  body();
  if (::setns(before.get(), CLONE_NEWNET) != 0) {
    ::perror("setns");
    ::abort();
  }
}

void NetworkNamespace::Command(const std::string& line) const {
  Run([&] {
    int status = 0;
    const std::string output = RunShell(line, &status);
    if (status == 0) return;
    ::fprintf(stderr, "%s: status %d\n%s\n", line.c_str(), status,
              output.c_str());
    ::abort();
  });
}

std::string NetworkNamespace::Output(const std::string& line) const {
  std::string output;
  Run([&] {
    int status = 0;
    output = RunShell(line, &status);
  });
  return output;
}

void NetworkNamespace::Connect(const NetworkNamespace& a,
                               const std::string& name_in_a,
                               const NetworkNamespace& b,
                               const std::string& name_in_b) {
  // ip(8) accepts the path of a descriptor as a namespace.
  a.Command(absl::StrCat("ip link add ", name_in_a, " type veth peer name ",
                         name_in_b, " netns /proc/", ::getpid(), "/fd/",
                         b.fd_.get()));
  a.Command(absl::StrCat("ip link set ", name_in_a, " up"));
  b.Command(absl::StrCat("ip link set ", name_in_b, " up"));
}

}  // namespace test
}  // namespace udpgate
