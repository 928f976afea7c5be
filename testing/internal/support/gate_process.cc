#include "testing/internal/support/gate_process.h"

#include <limits.h>
#include <stdlib.h>

#include <cstdlib>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace udpgate {
namespace test {
namespace {

constexpr absl::string_view kListening = "listening on ";
constexpr absl::string_view kAdmin = "admin endpoint: http://";

// The gateway runs in another directory.
std::string AbsolutePath(const std::string& path) {
  char resolved[PATH_MAX];
  return ::realpath(path.c_str(), resolved) != nullptr ? resolved : path;
}

// The address at this place of a log; invalid if there is none.
SocketAddress AddressAt(const std::string& log, size_t begin) {
  const size_t end = log.find_first_of(" ,;/\"\n", begin);
  return SocketAddress::Parse(log.substr(begin, end - begin))
      .value_or(SocketAddress());
}

// The address behind the first `listening on ` of a log.
SocketAddress ListenAddress(const std::string& log) {
  const size_t begin = log.find(kListening.data(), 0, kListening.size());
  if (begin == std::string::npos) return SocketAddress();
  return AddressAt(log, begin + kListening.size());
}

bool GivesProxyAddress(const GateProcessOptions& options) {
  if (options.environment.count("PROXY_ADDR") > 0 ||
      absl::StrContains(options.dot_env, "PROXY_ADDR")) {
    return true;
  }
  for (const std::string& flag : options.flags) {
    if (absl::StartsWith(flag, "--proxy-addr")) return true;
  }
  return false;
}

}  // namespace

GateProcess::GateProcess(std::string path, GateProcessOptions options)
    : path_(AbsolutePath(path)), options_(std::move(options)) {}

absl::Status GateProcess::Launch() {
  ChildProcessOptions child;
  child.arguments = {path_};
  child.arguments.insert(child.arguments.end(), options_.flags.begin(),
                         options_.flags.end());
  child.environment = options_.environment;
  // A gateway built with a sanitizer is told the same as the test.
  for (const char* name : {"ASAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS"}) {
    if (const char* value = std::getenv(name)) child.environment[name] = value;
  }
  if (!GivesProxyAddress(options_)) {
    child.environment["PROXY_ADDR"] = "127.0.0.1:0";
  }
  child.working_directory = directory_.path();
  child.open_files_soft_max = options_.open_files_soft_max;
  child.open_files_hard_max = options_.open_files_hard_max;
  if (!options_.dot_env.empty()) directory_.WriteFile(".env", options_.dot_env);
  absl::StatusOr<std::unique_ptr<ChildProcess>> process =
      ChildProcess::Start(child);
  if (!process.ok()) return process.status();
  process_ = *std::move(process);
  return absl::OkStatus();
}

absl::Status GateProcess::Start() {
  if (absl::Status launched = Launch(); !launched.ok()) return launched;
  // The line is complete with its end, not with its beginning.
  if (!AwaitLog(kListening) ||
      !AwaitLog("\n", kAwaitTimeout, log().find("listening on "))) {
    return absl::UnavailableError(
        absl::StrCat("the gateway does not listen:\n", log()));
  }
  address_ = ListenAddress(log());
  if (!address_.is_valid()) {
    return absl::InternalError(absl::StrCat("no address in:\n", log()));
  }
  return absl::OkStatus();
}

SocketAddress GateProcess::AdminAddress() const {
  const std::string said = log();
  const size_t begin = said.rfind(kAdmin.data(), said.npos, kAdmin.size());
  if (begin == std::string::npos) return SocketAddress();
  return AddressAt(said, begin + kAdmin.size());
}

bool GateProcess::AwaitLog(absl::string_view text, absl::Duration timeout,
                           size_t from) {
  return process_->AwaitOutput(text, timeout, from);
}

absl::StatusOr<ExitResult> GateProcess::AwaitExit(absl::Duration timeout) {
  return process_->AwaitExit(timeout);
}

absl::StatusOr<ExitResult> GateProcess::Terminate(int signal) {
  return process_->SignalAndAwaitExit(signal);
}

}  // namespace test
}  // namespace udpgate
