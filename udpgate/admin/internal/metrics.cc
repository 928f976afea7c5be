#include "udpgate/admin/internal/metrics.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <limits>
#include <sstream>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "prometheus/text_serializer.h"

namespace udpgate {
namespace admin {
namespace internal {
namespace {

using ::prometheus::ClientMetric;
using ::prometheus::MetricFamily;
using ::prometheus::MetricType;

using Labels = std::vector<ClientMetric::Label>;

MetricFamily Family(std::string name, std::string help, MetricType type) {
  MetricFamily family;
  family.name = std::move(name);
  family.help = std::move(help);
  family.type = type;
  return family;
}

void Add(MetricFamily* family, Labels labels, double value) {
  ClientMetric metric;
  metric.label = std::move(labels);
  metric.counter.value = value;
  metric.gauge.value = value;
  family->metric.push_back(std::move(metric));
}

// `all` includes the fast path.
double OnSockets(uint64_t all, uint64_t fast_path) {
  return static_cast<double>(all - std::min(all, fast_path));
}

// Numbers that become one metric with the labels `direction` and `path`.
struct TrafficUnit {
  const char* name;
  const char* text;
  uint64_t ProxyStats::*client_received;
  uint64_t ProxyStats::*backend_received;
  uint64_t ProxyStats::*client_forwarded;
  uint64_t ProxyStats::*backend_forwarded;
  uint64_t ProxyStats::*client_fast;
  uint64_t ProxyStats::*backend_fast;

  bool Has(uint64_t ProxyStats::*value) const {
    return value == client_received || value == backend_received ||
           value == client_forwarded || value == backend_forwarded ||
           value == client_fast || value == backend_fast;
  }
};

constexpr TrafficUnit kTrafficUnits[] = {
    {"datagrams", "Datagrams", &ProxyStats::client_datagrams_received,
     &ProxyStats::backend_datagrams_received,
     &ProxyStats::client_datagrams_forwarded,
     &ProxyStats::backend_datagrams_forwarded,
     &ProxyStats::fast_path_client_datagrams,
     &ProxyStats::fast_path_backend_datagrams},
    {"bytes", "Payload bytes", &ProxyStats::client_bytes_received,
     &ProxyStats::backend_bytes_received, &ProxyStats::client_bytes_forwarded,
     &ProxyStats::backend_bytes_forwarded, &ProxyStats::fast_path_client_bytes,
     &ProxyStats::fast_path_backend_bytes},
};

bool IsTraffic(uint64_t ProxyStats::*value) {
  return std::any_of(
      std::begin(kTrafficUnits), std::end(kTrafficUnits),
      [value](const TrafficUnit& unit) { return unit.Has(value); });
}

// Numbers that become one metric with the label `result`.
struct DisconnectResult {
  const char* name;
  uint64_t ProxyStats::*value;
};

constexpr DisconnectResult kDisconnectResults[] = {
    {"ended", &ProxyStats::disconnects_matched},
    {"not_found", &ProxyStats::disconnects_unmatched},
    {"invalid", &ProxyStats::disconnects_invalid},
    {"ambiguous", &ProxyStats::disconnects_ambiguous},
};

bool IsDisconnectResult(uint64_t ProxyStats::*value) {
  return std::any_of(std::begin(kDisconnectResults),
                     std::end(kDisconnectResults),
                     [value](const DisconnectResult& result) {
                       return result.value == value;
                     });
}

MetricFamily ResolveDurations(const ProxyStats& stats) {
  MetricFamily family =
      Family("udpgate_resolve_duration_seconds",
             "Duration of backend resolutions, including failed ones.",
             MetricType::Histogram);
  ClientMetric metric;
  uint64_t count = 0;
  for (size_t i = 0; i < kResolveBucketCount; ++i) {
    count += stats.resolves_by_duration[i];
    ClientMetric::Bucket bucket;
    bucket.cumulative_count = count;
    bucket.upper_bound = i + 1 < kResolveBucketCount
                             ? kResolveSecondsBounds[i]
                             : std::numeric_limits<double>::infinity();
    metric.histogram.bucket.push_back(bucket);
  }
  metric.histogram.sample_count = count;
  metric.histogram.sample_sum =
      static_cast<double>(stats.resolve_nanoseconds_total) / 1e9;
  family.metric.push_back(std::move(metric));
  return family;
}

void AddTraffic(const ProxyStats& stats, std::vector<MetricFamily>* families) {
  for (const TrafficUnit& unit : kTrafficUnits) {
    MetricFamily received = Family(
        absl::StrCat("udpgate_", unit.name, "_received_total"),
        absl::StrCat(unit.text, " received, by source."), MetricType::Counter);
    Add(&received, {{"direction", "client"}},
        static_cast<double>(stats.*unit.client_received));
    Add(&received, {{"direction", "backend"}},
        static_cast<double>(stats.*unit.backend_received));
    families->push_back(std::move(received));
    MetricFamily forwarded =
        Family(absl::StrCat("udpgate_", unit.name, "_forwarded_total"),
               absl::StrCat(unit.text, " forwarded, by source and path."),
               MetricType::Counter);
    for (const bool client : {true, false}) {
      const uint64_t all =
          stats.*(client ? unit.client_forwarded : unit.backend_forwarded);
      const uint64_t fast =
          stats.*(client ? unit.client_fast : unit.backend_fast);
      const std::string direction = client ? "client" : "backend";
      Add(&forwarded, {{"direction", direction}, {"path", "socket"}},
          OnSockets(all, fast));
      Add(&forwarded, {{"direction", direction}, {"path", "fast_path"}},
          static_cast<double>(fast));
    }
    families->push_back(std::move(forwarded));
  }
}

}  // namespace

MetricFamily Gauge(const std::string& name, const std::string& help,
                   double value) {
  MetricFamily family = Family(name, help, MetricType::Gauge);
  Add(&family, {}, value);
  return family;
}

MetricFamily Counter(const std::string& name, const std::string& help,
                     double value) {
  MetricFamily family = Family(name, help, MetricType::Counter);
  Add(&family, {}, value);
  return family;
}

std::vector<MetricFamily> StatsFamilies(const ProxyStats& stats) {
  std::vector<MetricFamily> families;
  AddTraffic(stats, &families);
  for (const ProxyStatField& field : ProxyStatFields()) {
    if (IsTraffic(field.value) || IsDisconnectResult(field.value)) continue;
    const double value = static_cast<double>(stats.*field.value);
    const std::string help(field.help);
    families.push_back(
        field.kind == ProxyStatField::Kind::kCounter
            ? Counter(absl::StrCat("udpgate_", field.name, "_total"), help,
                      value)
            : Gauge(absl::StrCat("udpgate_", field.name), help, value));
  }
  MetricFamily disconnects =
      Family("udpgate_disconnects_total", "Disconnect events by result.",
             MetricType::Counter);
  for (const DisconnectResult& result : kDisconnectResults) {
    Add(&disconnects, {{"result", result.name}},
        static_cast<double>(stats.*result.value));
  }
  families.push_back(std::move(disconnects));
  families.push_back(ResolveDurations(stats));
  MetricFamily drops =
      Family("udpgate_datagrams_dropped_total", "Datagrams dropped, by reason.",
             MetricType::Counter);
  for (size_t i = 0; i < kDropReasonCount; ++i) {
    Add(&drops,
        {{"reason", std::string(DropReasonName(static_cast<DropReason>(i)))}},
        static_cast<double>(stats.datagrams_dropped[i]));
  }
  families.push_back(std::move(drops));
  MetricFamily ends = Family("udpgate_sessions_ended_total",
                             "Sessions ended, by reason.", MetricType::Counter);
  for (size_t i = 0; i < kEndReasonCount; ++i) {
    Add(&ends,
        {{"reason", std::string(EndReasonName(static_cast<EndReason>(i)))}},
        static_cast<double>(stats.sessions_ended[i]));
  }
  families.push_back(std::move(ends));
  MetricFamily reopened =
      Family("udpgate_sessions_reopened_total",
             "Upstream sockets reopened towards the same backend, by reason.",
             MetricType::Counter);
  for (size_t i = 0; i < kReopenReasonCount; ++i) {
    Add(&reopened,
        {{"reason",
          std::string(ReopenReasonName(static_cast<ReopenReason>(i)))}},
        static_cast<double>(stats.sessions_reopened[i]));
  }
  families.push_back(std::move(reopened));
  return families;
}

MetricFamily BackendFamily(absl::Span<const BackendLoad> backends,
                           int backends_max) {
  MetricFamily family =
      Family("udpgate_backend_sessions",
             "Live sessions by backend; other: all backends without a label.",
             MetricType::Gauge);
  uint64_t other = 0;
  for (size_t i = 0; i < backends.size(); ++i) {
    if (i < static_cast<size_t>(backends_max)) {
      Add(&family, {{"backend", backends[i].backend}},
          static_cast<double>(backends[i].sessions));
    } else {
      other += backends[i].sessions;
    }
  }
  if (other > 0) {
    Add(&family, {{"backend", "other"}}, static_cast<double>(other));
  }
  return family;
}

std::vector<MetricFamily> HistoryFamilies(
    absl::Span<const SessionHistory::Backend> backends) {
  if (backends.empty()) return {};
  MetricFamily opened = Family(
      "udpgate_backend_sessions_opened_total",
      "Sessions opened, by backend; other: all backends without a label.",
      MetricType::Counter);
  MetricFamily ended = Family(
      "udpgate_backend_sessions_ended_total",
      "Sessions ended, by backend and reason; other: all backends without a "
      "label.",
      MetricType::Counter);
  for (const SessionHistory::Backend& backend : backends) {
    const std::string name =
        backend.address.is_valid() ? backend.address.ToString() : "other";
    Add(&opened, {{"backend", name}}, static_cast<double>(backend.opened));
    for (size_t i = 0; i < kEndReasonCount; ++i) {
      const std::string reason(EndReasonName(static_cast<EndReason>(i)));
      Add(&ended, {{"backend", name}, {"reason", reason}},
          static_cast<double>(backend.ended[i]));
    }
  }
  return {std::move(opened), std::move(ended)};
}

std::vector<MetricFamily> ProcessFamilies() {
  std::vector<MetricFamily> families;
  if (DIR* directory = opendir("/proc/self/fd"); directory != nullptr) {
    int count = 0;
    while (const dirent* entry = readdir(directory)) {
      if (entry->d_name[0] != '.') ++count;
    }
    closedir(directory);
    // Without the descriptor that reads the directory.
    families.push_back(
        Gauge("process_open_fds", "Open file descriptors.", count - 1));
  }
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    families.push_back(Gauge("process_max_fds",
                             "Maximum number of open file descriptors.",
                             static_cast<double>(limit.rlim_cur)));
  }
  const double ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  std::ifstream stat("/proc/self/stat");
  const std::string text((std::istreambuf_iterator<char>(stat)),
                         std::istreambuf_iterator<char>());
  // The program name, in parentheses, may contain spaces and parentheses.
  const size_t end = text.rfind(") ");
  if (end != std::string::npos) {
    const std::vector<std::string> fields =
        absl::StrSplit(absl::string_view(text).substr(end + 2), ' ');
    // proc(5) numbers fields from 1; the first one here is number 3.
    const auto field = [&fields](size_t number) {
      double value = 0;
      if (number - 3 < fields.size()) {
        (void)absl::SimpleAtod(fields[number - 3], &value);
      }
      return value;
    };
    families.push_back(Counter("process_cpu_seconds_total",
                               "User and system CPU time, in seconds.",
                               (field(14) + field(15)) / ticks));
    families.push_back(Gauge("process_virtual_memory_bytes",
                             "Virtual memory, in bytes.", field(23)));
    families.push_back(
        Gauge("process_resident_memory_bytes", "Resident memory, in bytes.",
              field(24) * static_cast<double>(sysconf(_SC_PAGESIZE))));
    std::ifstream system("/proc/stat");
    std::string word;
    double boot = 0;
    while (system >> word && word != "btime") continue;
    if (system >> boot) {
      families.push_back(
          Gauge("process_start_time_seconds",
                "Start time of the process, in seconds since 1970-01-01 UTC.",
                boot + field(22) / ticks));
    }
  }
  return families;
}

std::string Serialize(const std::vector<MetricFamily>& families) {
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, families);
  return out.str();
}

}  // namespace internal
}  // namespace admin
}  // namespace udpgate
