#include "udpgate/admin/internal/metrics.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "prometheus/metric_family.h"
#include "udpgate/admin/internal/backend_loads.h"
#include "udpgate/admin/session_history.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace admin {
namespace internal {
namespace {

using ::prometheus::MetricFamily;
using ::prometheus::MetricType;
using ::testing::_;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;

// Each sample of the text format, by its name with labels.
std::map<std::string, std::string> Samples(
    const std::vector<MetricFamily>& families) {
  std::map<std::string, std::string> samples;
  for (const absl::string_view line :
       absl::StrSplit(Serialize(families), '\n', absl::SkipEmpty())) {
    if (line[0] == '#') continue;
    const size_t space = line.rfind(' ');
    const bool is_new =
        samples.emplace(line.substr(0, space), line.substr(space + 1)).second;
    EXPECT_TRUE(is_new) << line;
  }
  return samples;
}

// Every plain number has a value of its own.
ProxyStats DistinctStats() {
  ProxyStats stats;
  uint64_t value = 1000;
  for (const ProxyStatField& field : ProxyStatFields()) {
    stats.*field.value = value++;
  }
  return stats;
}

TEST(StatsFamiliesTest, EachPlainNumberIsShownOnce) {
  const ProxyStats stats = DistinctStats();
  std::multiset<std::string> values;
  for (const auto& [name, value] : Samples(StatsFamilies(stats))) {
    values.insert(value);
  }
  for (const ProxyStatField& field : ProxyStatFields()) {
    const std::string name(field.name);
    // The forwarded ones are shown without those of the fast path.
    if (absl::EndsWith(name, "_forwarded")) continue;
    EXPECT_EQ(values.count(absl::StrCat(stats.*field.value)), 1u) << name;
  }
}

TEST(StatsFamiliesTest, NamesAndTypesFollowTheKind) {
  std::map<std::string, MetricType> types;
  for (const MetricFamily& family : StatsFamilies(DistinctStats())) {
    EXPECT_TRUE(types.emplace(family.name, family.type).second) << family.name;
    EXPECT_TRUE(absl::StartsWith(family.name, "udpgate_")) << family.name;
    EXPECT_EQ(absl::EndsWith(family.name, "_total"),
              family.type == MetricType::Counter)
        << family.name;
    EXPECT_FALSE(family.help.empty()) << family.name;
  }
  EXPECT_EQ(types["udpgate_sessions_active"], MetricType::Gauge);
  EXPECT_EQ(types["udpgate_sessions_created_total"], MetricType::Counter);
}

TEST(StatsFamiliesTest, TrafficIsShownByDirectionAndPath) {
  ProxyStats stats;
  stats.client_datagrams_received = 10;
  stats.backend_bytes_received = 20;
  stats.client_datagrams_forwarded = 9;
  stats.fast_path_client_datagrams = 4;
  stats.backend_bytes_forwarded = 18;
  stats.fast_path_backend_bytes = 19;  // must not underflow
  std::map<std::string, std::string> samples = Samples(StatsFamilies(stats));
  const auto sample = [&samples](const std::string& name) {
    return samples[absl::StrCat("udpgate_", name)];
  };
  EXPECT_EQ(sample("datagrams_received_total{direction=\"client\"}"), "10");
  EXPECT_EQ(sample("bytes_received_total{direction=\"backend\"}"), "20");
  EXPECT_EQ(sample("datagrams_forwarded_total{direction=\"client\","
                   "path=\"socket\"}"),
            "5");
  EXPECT_EQ(sample("datagrams_forwarded_total{direction=\"client\","
                   "path=\"fast_path\"}"),
            "4");
  EXPECT_EQ(sample("bytes_forwarded_total{direction=\"backend\","
                   "path=\"socket\"}"),
            "0");
}

TEST(StatsFamiliesTest, EachReasonIsALabel) {
  ProxyStats stats;
  for (size_t i = 0; i < kDropReasonCount; ++i) {
    stats.datagrams_dropped[i] = 100 + i;
  }
  for (size_t i = 0; i < kEndReasonCount; ++i) {
    stats.sessions_ended[i] = 200 + i;
  }
  for (size_t i = 0; i < kReopenReasonCount; ++i) {
    stats.sessions_reopened[i] = 300 + i;
  }
  std::map<std::string, std::string> samples = Samples(StatsFamilies(stats));
  const auto sample = [&samples](const std::string& name,
                                 absl::string_view reason) {
    return samples[absl::StrCat("udpgate_", name, "_total{reason=\"", reason,
                                "\"}")];
  };
  for (size_t i = 0; i < kDropReasonCount; ++i) {
    EXPECT_EQ(
        sample("datagrams_dropped", DropReasonName(static_cast<DropReason>(i))),
        absl::StrCat(100 + i));
  }
  for (size_t i = 0; i < kEndReasonCount; ++i) {
    EXPECT_EQ(
        sample("sessions_ended", EndReasonName(static_cast<EndReason>(i))),
        absl::StrCat(200 + i));
  }
  for (size_t i = 0; i < kReopenReasonCount; ++i) {
    EXPECT_EQ(sample("sessions_reopened",
                     ReopenReasonName(static_cast<ReopenReason>(i))),
              absl::StrCat(300 + i));
  }
}

TEST(StatsFamiliesTest, DisconnectsAreShownByResult) {
  ProxyStats stats;
  stats.disconnects_matched = 1;
  stats.disconnects_unmatched = 2;
  stats.disconnects_invalid = 3;
  stats.disconnects_ambiguous = 4;
  std::map<std::string, std::string> samples = Samples(StatsFamilies(stats));
  EXPECT_EQ(samples["udpgate_disconnects_total{result=\"ended\"}"], "1");
  EXPECT_EQ(samples["udpgate_disconnects_total{result=\"not_found\"}"], "2");
  EXPECT_EQ(samples["udpgate_disconnects_total{result=\"invalid\"}"], "3");
  EXPECT_EQ(samples["udpgate_disconnects_total{result=\"ambiguous\"}"], "4");
}

TEST(StatsFamiliesTest, TheHistogramIsCumulative) {
  ProxyStats stats;
  for (size_t i = 0; i < kResolveBucketCount; ++i) {
    stats.resolves_by_duration[i] = i + 1;
  }
  stats.resolve_nanoseconds_total = 2500000000;
  const std::vector<MetricFamily> families = StatsFamilies(stats);
  const auto family = std::find_if(
      families.begin(), families.end(), [](const MetricFamily& other) {
        return other.name == "udpgate_resolve_duration_seconds";
      });
  ASSERT_NE(family, families.end());
  const auto& histogram = family->metric[0].histogram;
  ASSERT_EQ(histogram.bucket.size(), kResolveBucketCount);
  uint64_t sum = 0;
  for (size_t i = 0; i < kResolveBucketCount; ++i) {
    sum += i + 1;
    EXPECT_EQ(histogram.bucket[i].cumulative_count, sum);
    if (i + 1 < kResolveBucketCount) {
      EXPECT_EQ(histogram.bucket[i].upper_bound, kResolveSecondsBounds[i]);
    }
  }
  EXPECT_EQ(histogram.sample_count, sum);
  EXPECT_EQ(histogram.sample_sum, 2.5);
  EXPECT_EQ(
      Samples(families)["udpgate_resolve_duration_seconds_bucket{le=\"+Inf\"}"],
      absl::StrCat(sum));
}

TEST(BackendFamilyTest, BackendsBeyondTheLimitAreOther) {
  const std::vector<BackendLoad> loads = {
      {"192.0.2.1:1", 5}, {"192.0.2.2:2", 3}, {"192.0.2.3:3", 2}};
  EXPECT_THAT(
      Samples({BackendFamily(loads, 1)}),
      ElementsAre(
          Pair("udpgate_backend_sessions{backend=\"192.0.2.1:1\"}", "5"),
          Pair("udpgate_backend_sessions{backend=\"other\"}", "5")));
  EXPECT_THAT(Samples({BackendFamily(loads, 3)}),
              Not(Contains(Pair(HasSubstr("other"), _))));
  EXPECT_THAT(Samples({BackendFamily({}, 3)}), IsEmpty());
}

TEST(HistoryFamiliesTest, EndsAreShownByBackendAndReason) {
  SessionHistory::Backend named;
  named.address = *SocketAddress::Parse("192.0.2.1:1");
  named.opened = 4;
  named.ended[static_cast<size_t>(EndReason::kIdle)] = 3;
  SessionHistory::Backend others;
  others.opened = 2;
  std::map<std::string, std::string> samples =
      Samples(HistoryFamilies({named, others}));
  EXPECT_EQ(samples.size(), 2 + 2 * kEndReasonCount);
  const std::string prefix = "udpgate_backend_sessions_";
  EXPECT_EQ(samples[prefix + "opened_total{backend=\"192.0.2.1:1\"}"], "4");
  EXPECT_EQ(samples[prefix + "opened_total{backend=\"other\"}"], "2");
  EXPECT_EQ(samples[prefix + "ended_total{backend=\"192.0.2.1:1\","
                             "reason=\"idle\"}"],
            "3");
  EXPECT_EQ(samples[prefix + "ended_total{backend=\"other\",reason=\"idle\"}"],
            "0");
  EXPECT_THAT(HistoryFamilies({}), IsEmpty());
}

double ProcessNumber(const std::string& name) {
  const std::map<std::string, std::string> samples = Samples(ProcessFamilies());
  const auto sample = samples.find(name);
  double number = -1;
  EXPECT_TRUE(sample != samples.end() &&
              absl::SimpleAtod(sample->second, &number))
      << name;
  return number;
}

TEST(ProcessFamiliesTest, DescribesThisProcess) {
  const double before = ProcessNumber("process_open_fds");
  const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(ProcessNumber("process_open_fds"), before + 1);
  close(fd);
  EXPECT_EQ(ProcessNumber("process_open_fds"), before);
  EXPECT_GE(ProcessNumber("process_max_fds"), before);
  const double resident = ProcessNumber("process_resident_memory_bytes");
  EXPECT_GT(resident, 1 << 20);
  EXPECT_GE(ProcessNumber("process_virtual_memory_bytes"), resident);
  EXPECT_GE(ProcessNumber("process_cpu_seconds_total"), 0);
  timespec now;
  ASSERT_EQ(clock_gettime(CLOCK_REALTIME, &now), 0);
  const double start = ProcessNumber("process_start_time_seconds");
  EXPECT_LE(start, static_cast<double>(now.tv_sec) + 2);
  EXPECT_GE(start, static_cast<double>(now.tv_sec) - 600);
}

TEST(SerializeTest, LabelsAreEscaped) {
  MetricFamily family = Gauge("name", "Help.", 1.5);
  family.metric[0].label = {{"label", "a\"b\\c\nd"}};
  EXPECT_EQ(Serialize({family}),
            "# HELP name Help.\n# TYPE name gauge\n"
            "name{label=\"a\\\"b\\\\c\\nd\"} 1.5\n");
  EXPECT_THAT(Serialize({Counter("name_total", "Help.", 2)}),
              HasSubstr("# TYPE name_total counter\nname_total 2\n"));
}

}  // namespace
}  // namespace internal
}  // namespace admin
}  // namespace udpgate
