#include "udpgate/admin/internal/host_families.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace udpgate {
namespace admin {
namespace internal {
namespace {

using ::prometheus::ClientMetric;
using ::prometheus::MetricFamily;
using ::prometheus::MetricType;

MetricType TypeOf(HostMetric::Kind kind) {
  switch (kind) {
    case HostMetric::Kind::kCounter:
      return MetricType::Counter;
    case HostMetric::Kind::kGauge:
      return MetricType::Gauge;
    case HostMetric::Kind::kHistogram:
      return MetricType::Histogram;
  }
  return MetricType::Untyped;
}

ClientMetric::Histogram ToHistogram(const HostHistogram& histogram) {
  ClientMetric::Histogram result;
  uint64_t count = 0;
  for (size_t i = 0; i < histogram.counts.size(); ++i) {
    count += histogram.counts[i];
    ClientMetric::Bucket bucket;
    bucket.cumulative_count = count;
    bucket.upper_bound = i < histogram.upper_bounds.size()
                             ? histogram.upper_bounds[i]
                             : std::numeric_limits<double>::infinity();
    result.bucket.push_back(bucket);
  }
  result.sample_count = count;
  result.sample_sum = histogram.sum;
  return result;
}

ClientMetric ToClientMetric(const HostMetric& metric) {
  ClientMetric result;
  for (const auto& [name, value] : metric.labels) {
    result.label.push_back({name, value});
  }
  switch (metric.kind) {
    case HostMetric::Kind::kCounter:
      result.counter.value = metric.value;
      break;
    case HostMetric::Kind::kGauge:
      result.gauge.value = metric.value;
      break;
    case HostMetric::Kind::kHistogram:
      result.histogram = ToHistogram(metric.histogram);
      break;
  }
  return result;
}

// The name of a sample. The values of labels are not escaped: the name is a
// key, which nobody parses.
std::string SampleName(const MetricFamily& family, absl::string_view suffix,
                       const ClientMetric& metric,
                       absl::string_view more_labels = "") {
  std::string labels(more_labels);
  for (const ClientMetric::Label& label : metric.label) {
    absl::StrAppend(&labels, labels.empty() ? "" : ",", label.name, "=\"",
                    label.value, "\"");
  }
  return labels.empty() ? absl::StrCat(family.name, suffix)
                        : absl::StrCat(family.name, suffix, "{", labels, "}");
}

// Calls `visit` with the name and the value of each sample that only grows, and
// sets it to what that returns.
void ForEachCounter(
    MetricFamily* family,
    absl::FunctionRef<double(const std::string& name, double value)> visit) {
  const auto visit_count = [&visit](const std::string& name, uint64_t* count) {
    *count = static_cast<uint64_t>(
        std::llround(visit(name, static_cast<double>(*count))));
  };
  for (ClientMetric& metric : family->metric) {
    if (family->type == MetricType::Counter) {
      metric.counter.value =
          visit(SampleName(*family, "", metric), metric.counter.value);
    } else if (family->type == MetricType::Histogram) {
      ClientMetric::Histogram& histogram = metric.histogram;
      histogram.sample_sum =
          visit(SampleName(*family, "_sum", metric), histogram.sample_sum);
      visit_count(SampleName(*family, "_count", metric),
                  &histogram.sample_count);
      for (ClientMetric::Bucket& bucket : histogram.bucket) {
        const std::string bound =
            absl::StrCat("le=\"", bucket.upper_bound, "\"");
        visit_count(SampleName(*family, "_bucket", metric, bound),
                    &bucket.cumulative_count);
      }
    }
  }
}

}  // namespace

std::vector<MetricFamily> HostFamilies(absl::Span<const HostMetric> metrics) {
  std::vector<MetricFamily> families;
  absl::flat_hash_map<std::string, size_t> index_by_name;
  for (const HostMetric& metric : metrics) {
    const auto [found, is_new] =
        index_by_name.emplace(metric.name, families.size());
    if (is_new) {
      MetricFamily family;
      family.name = metric.name;
      family.help = metric.help;
      family.type = TypeOf(metric.kind);
      families.push_back(std::move(family));
    }
    families[found->second].metric.push_back(ToClientMetric(metric));
  }
  return families;
}

std::map<std::string, double> CountersOf(
    const std::vector<MetricFamily>& families) {
  std::map<std::string, double> counters;
  for (MetricFamily family : families) {
    ForEachCounter(&family, [&counters](const std::string& name, double value) {
      counters[name] = value;
      return value;
    });
  }
  return counters;
}

void AddCountersBefore(const std::map<std::string, double>& before,
                       std::vector<MetricFamily>* families) {
  for (MetricFamily& family : *families) {
    ForEachCounter(&family, [&before](const std::string& name, double value) {
      const auto found = before.find(name);
      return found == before.end() ? value : value + found->second;
    });
  }
}

}  // namespace internal
}  // namespace admin
}  // namespace udpgate
