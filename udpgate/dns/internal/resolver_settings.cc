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
constexpr int kNdotsMax = 15;  // RES_MAXNDOTS

constexpr size_t kSearchDomainsMax = 32;
constexpr size_t kNameBytesMax = 253;
constexpr size_t kFileBytesMax = 64 * 1024;

void ReadOptions(absl::string_view text, ResolvConfOptions* options) {
  for (absl::string_view option :
       absl::StrSplit(text, absl::ByAnyChar(" \t"), absl::SkipEmpty())) {
    int value = 0;
    if (absl::ConsumePrefix(&option, "timeout:")) {
      if (!absl::SimpleAtoi(option, &value)) continue;
      options->attempt_timeout =
          absl::Seconds(std::clamp(value, 1, kTimeoutSecondsMax));
    } else if (absl::ConsumePrefix(&option, "attempts:")) {
      if (!absl::SimpleAtoi(option, &value)) continue;
      options->attempts = std::clamp(value, 1, kAttemptsMax);
    } else if (absl::ConsumePrefix(&option, "ndots:")) {
      if (!absl::SimpleAtoi(option, &value)) continue;
      options->ndots = std::clamp(value, 0, kNdotsMax);
    }
  }
}

// Whether `line` is the keyword and a value, which it then becomes.
bool ConsumeKeyword(absl::string_view keyword, absl::string_view* line) {
  absl::string_view rest = *line;
  if (!absl::ConsumePrefix(&rest, keyword) || rest.empty() ||
      !absl::ascii_isspace(static_cast<unsigned char>(rest.front()))) {
    return false;
  }
  *line = absl::StripAsciiWhitespace(rest);
  return !line->empty();
}

std::vector<std::string> Words(absl::string_view text) {
  return absl::StrSplit(text, absl::ByAnyChar(" \t\r,"), absl::SkipEmpty());
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

ResolvConfOptions ReadResolvConfOptions(absl::string_view resolv_conf,
                                        absl::string_view res_options) {
  ResolvConfOptions options;
  for (absl::string_view line : absl::StrSplit(resolv_conf, '\n')) {
    if (ConsumeKeyword("options", &line)) ReadOptions(line, &options);
  }
  ReadOptions(absl::StripAsciiWhitespace(res_options), &options);
  return options;
}

std::vector<std::string> ReadSearchDomains(
    absl::string_view resolv_conf,
    const absl::optional<std::string>& local_domain,
    absl::string_view host_name) {
  if (local_domain.has_value()) return Words(*local_domain);
  std::vector<std::string> domains;
  for (absl::string_view line : absl::StrSplit(resolv_conf, '\n')) {
    line = line.substr(0, line.find_first_of("#;"));
    if (ConsumeKeyword("search", &line)) {
      domains = Words(line);
    } else if (ConsumeKeyword("domain", &line)) {
      domains = Words(line);
      if (domains.size() > 1) domains.resize(1);
    }
  }
  const size_t dot = host_name.find('.');
  if (domains.empty() && dot != absl::string_view::npos) {
    domains.emplace_back(host_name.substr(dot + 1));
  }
  return domains;
}

std::string ReadSources(absl::string_view nsswitch_conf) {
  std::string sources;
  const auto add = [&](char source) {
    if (!absl::StrContains(sources, source)) sources.push_back(source);
  };
  for (absl::string_view line : absl::StrSplit(nsswitch_conf, '\n')) {
    line = absl::StripLeadingAsciiWhitespace(line.substr(0, line.find('#')));
    if (!absl::ConsumePrefix(&line, "hosts:")) continue;
    for (const std::string& word : Words(line)) {
      if (word == "files") add('f');
      if (word == "dns" || word == "resolve") add('b');
    }
  }
  return sources.empty() ? "fb" : sources;
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
