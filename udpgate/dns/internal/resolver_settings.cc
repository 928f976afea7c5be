#include "udpgate/dns/internal/resolver_settings.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "udpgate/internal/util/unique_fd.h"

namespace udpgate {
namespace dns {
namespace internal {
namespace {

constexpr char kNsswitchPath[] = "/etc/nsswitch.conf";
constexpr char kHostsPath[] = "/etc/hosts";

// RES_MAXRETRANS and RES_MAXRETRY of glibc's resolv.h.
constexpr int kTimeoutSecondsMax = 30;
constexpr int kAttemptsMax = 5;

constexpr size_t kSearchDomainsMax = 32;
constexpr size_t kNameBytesMax = 253;
constexpr size_t kFileBytesMax = 64 * 1024;

void ReadOptions(absl::string_view text, ResolverTimes* times) {
  for (absl::string_view option :
       absl::StrSplit(text, absl::ByAnyChar(" \t"), absl::SkipEmpty())) {
    int value = 0;
    if (absl::ConsumePrefix(&option, "timeout:")) {
      if (!absl::SimpleAtoi(option, &value)) continue;
      times->attempt_timeout =
          absl::Seconds(std::clamp(value, 1, kTimeoutSecondsMax));
    } else if (absl::ConsumePrefix(&option, "attempts:")) {
      if (!absl::SimpleAtoi(option, &value)) continue;
      times->attempts = std::clamp(value, 1, kAttemptsMax);
    }
  }
}

std::string ReadFile(const std::string& path) {
  // O_NONBLOCK: a pipe in place of the file must not block the reader.
  const udpgate::internal::UniqueFd fd(
      open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  std::string content;
  if (!fd.is_open()) return content;
  char buffer[4096];
  while (content.size() < kFileBytesMax) {
    const ssize_t size = read(fd.get(), buffer, sizeof(buffer));
    if (size <= 0) break;
    content.append(buffer, static_cast<size_t>(size));
  }
  return content;
}

int64_t ToNanoseconds(const timespec& time) {
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

}  // namespace

ResolverTimes ReadResolverTimes(absl::string_view resolv_conf,
                                absl::string_view res_options) {
  ResolverTimes times;
  for (absl::string_view line : absl::StrSplit(resolv_conf, '\n')) {
    if (!absl::ConsumePrefix(&line, "options") || line.empty() ||
        !absl::ascii_isspace(static_cast<unsigned char>(line.front()))) {
      continue;
    }
    ReadOptions(absl::StripAsciiWhitespace(line), &times);
  }
  ReadOptions(absl::StripAsciiWhitespace(res_options), &times);
  return times;
}

std::vector<std::string> SearchNames(absl::string_view host,
                                     absl::Span<const std::string> domains,
                                     int ndots) {
  if (absl::ConsumeSuffix(&host, ".")) return {std::string(host)};
  std::vector<std::string> names;
  const auto add = [&](std::string name) {
    if (name.size() <= kNameBytesMax &&
        std::find(names.begin(), names.end(), name) == names.end()) {
      names.push_back(std::move(name));
    }
  };
  if (std::count(host.begin(), host.end(), '.') >= ndots) {
    add(std::string(host));
  }
  for (absl::string_view domain :
       domains.subspan(0, std::min(domains.size(), kSearchDomainsMax))) {
    absl::ConsumeSuffix(&domain, ".");
    absl::ConsumePrefix(&domain, ".");
    add(domain.empty() ? std::string(host) : absl::StrCat(host, ".", domain));
  }
  add(std::string(host));
  return names;
}

ResolverFiles ReadResolverFiles(const std::string& resolv_conf_path) {
  ResolverFiles files;
  files.resolv_conf = ReadFile(resolv_conf_path);
  files.nsswitch_conf = ReadFile(kNsswitchPath);
  struct stat hosts {};
  if (stat(kHostsPath, &hosts) == 0) {
    files.hosts = {static_cast<int64_t>(hosts.st_dev),
                   static_cast<int64_t>(hosts.st_ino), hosts.st_size,
                   ToNanoseconds(hosts.st_mtim), ToNanoseconds(hosts.st_ctim)};
  }
  return files;
}

}  // namespace internal
}  // namespace dns
}  // namespace udpgate
