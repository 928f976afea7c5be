#include "udpgate/dns/backend_list.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "udpgate/dns/backend_text.h"
#include "udpgate/dns/host_port.h"
#include "udpgate/internal/util/mutex.h"

namespace udpgate {
namespace {

using internal::Mutex;
using internal::MutexLock;

// A backend as written.
struct Named {
  std::string text;  // without the weight
  int weight = 1;
};

// FNV-1a, and the finalizer of SplitMix64 since FNV mixes the last bytes
// little. The same in every process.
uint64_t Hash(const SocketAddress& client, absl::string_view label) {
  uint64_t hash = 0xcbf29ce484222325;
  const auto mix = [&hash](uint8_t byte) {
    hash = (hash ^ byte) * 0x100000001b3;
  };
  mix(client.is_ipv4() ? 4 : 6);
  for (const uint8_t byte : client.ip_bytes()) mix(byte);
  for (const char c : label) mix(static_cast<uint8_t>(c));
  hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9;
  hash = (hash ^ (hash >> 27)) * 0x94d049bb133111eb;
  return hash ^ (hash >> 31);
}

// The highest score wins, with a probability in proportion to the weight.
double Score(const SocketAddress& client, const BackendList::Entry& entry) {
  // Above 0 and below 1.
  const double uniform =
      (static_cast<double>(Hash(client, entry.backend.label) >> 11) + 0.5) *
      0x1.0p-53;
  return -entry.weight / std::log(uniform);
}

absl::StatusOr<Named> ParseNamed(absl::string_view text) {
  Named named;
  const size_t star = text.rfind('*');
  named.text = std::string(text.substr(0, star));
  if (star != absl::string_view::npos) {
    const absl::string_view weight = text.substr(star + 1);
    const bool is_plain = std::all_of(weight.begin(), weight.end(), [](char c) {
      return absl::ascii_isdigit(static_cast<unsigned char>(c));
    });
    if (!is_plain || !absl::SimpleAtoi(weight, &named.weight) ||
        named.weight < 1 || named.weight > BackendList::kWeightMax) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the weight of a backend is not 1 to ", BackendList::kWeightMax));
    }
  }
  if (absl::Status status = HostPort::Parse(named.text).status();
      !status.ok()) {
    return status;
  }
  return named;
}

absl::StatusOr<std::vector<Named>> ParseList(
    const std::vector<absl::string_view>& words) {
  if (words.size() > BackendList::kBackendsMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "there are more than ", BackendList::kBackendsMax, " backends"));
  }
  std::vector<Named> list;
  for (const absl::string_view word : words) {
    absl::StatusOr<Named> named = ParseNamed(word);
    if (!named.ok()) return named.status();
    const bool is_there_twice = std::any_of(
        list.begin(), list.end(),
        [&](const Named& other) { return other.text == named->text; });
    if (is_there_twice) {
      return absl::InvalidArgumentError(
          absl::StrCat("backend ", named->text, " is named twice"));
    }
    list.push_back(*std::move(named));
  }
  return list;
}

// Collects the results of several lookups.
class Collector {
 public:
  Collector(std::string text, std::vector<Named> list, BackendListCallback done)
      : text_(std::move(text)),
        list_(std::move(list)),
        done_(std::move(done)),
        results_(list_.size(), absl::UnknownError("no result")),
        missing_(list_.size()) {}

  const std::vector<Named>& list() const { return list_; }

  void Set(size_t index, absl::StatusOr<ResolveResult> result) {
    {
      MutexLock lock(&mutex_);
      results_[index] = std::move(result);
      if (--missing_ > 0) return;
    }
    Finish();
  }

 private:
  void Finish() {
    std::vector<BackendList::Entry> entries;
    absl::Status failure;
    {
      MutexLock lock(&mutex_);
      for (size_t i = 0; i < list_.size(); ++i) {
        if (results_[i].ok()) {
          entries.push_back({*std::move(results_[i]), list_[i].weight});
        } else if (failure.ok()) {
          failure = results_[i].status();
        }
      }
    }
    if (entries.empty()) {
      done_(failure);
    } else {
      done_(std::make_shared<const BackendList>(std::move(text_),
                                                std::move(entries)));
    }
  }

  std::string text_;
  const std::vector<Named> list_;
  BackendListCallback done_;
  Mutex mutex_;
  std::vector<absl::StatusOr<ResolveResult>> results_ ABSL_GUARDED_BY(mutex_);
  size_t missing_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

ResolveResult BackendList::Choose(const SocketAddress& client) const {
  if (entries_.size() == 1) return entries_.front().backend;
  std::vector<std::pair<double, const ResolveResult*>> order;
  order.reserve(entries_.size());
  for (const Entry& entry : entries_) {
    order.emplace_back(Score(client, entry), &entry.backend);
  }
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first
                              : a.second->label < b.second->label;
  });
  ResolveResult result = *order.front().second;
  result.alternative_labels.assign(result.alternatives.size(), result.label);
  for (size_t i = 1; i < order.size(); ++i) {
    const ResolveResult& other = *order[i].second;
    result.alternatives.push_back(other.backend);
    result.alternatives.insert(result.alternatives.end(),
                               other.alternatives.begin(),
                               other.alternatives.end());
    result.alternative_labels.resize(result.alternatives.size(), other.label);
  }
  return result;
}

void ResolveBackendList(absl::string_view text, absl::Duration timeout,
                        HostLookup* lookup, BackendListCallback done) {
  const absl::string_view stripped = absl::StripAsciiWhitespace(text);
  const std::vector<absl::string_view> words = absl::StrSplit(
      stripped, absl::ByAnyChar(" \t\r\n\v\f"), absl::SkipEmpty());
  // One backend, or what its error is about.
  std::vector<Named> list = {{std::string(stripped)}};
  if (words.size() > 1 || stripped.find('*') != absl::string_view::npos) {
    absl::StatusOr<std::vector<Named>> parsed = ParseList(words);
    if (!parsed.ok()) {
      done(parsed.status());
      return;
    }
    list = *std::move(parsed);
  }
  if (list.size() > 1) timeout /= 2;
  const auto collector = std::make_shared<Collector>(
      std::string(stripped), std::move(list), std::move(done));
  for (size_t i = 0; i < collector->list().size(); ++i) {
    ResolveBackendText(collector->list()[i].text, timeout, lookup,
                       [collector, i](absl::StatusOr<ResolveResult> result) {
                         collector->Set(i, std::move(result));
                       });
  }
}

}  // namespace udpgate
