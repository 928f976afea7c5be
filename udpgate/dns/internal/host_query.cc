#include "udpgate/dns/internal/host_query.h"

#include <ares.h>
#include <sys/socket.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/time/time.h"
#include "udpgate/dns/internal/ares_library.h"

namespace udpgate {
namespace dns {
namespace internal {
namespace {

constexpr std::array<int, 2> kFamilies = {AF_INET, AF_INET6};

}  // namespace

HostQuery::HostQuery(std::string host, Context* context)
    : host_(std::move(host)), context_(context), error_(ARES_ENOTFOUND) {}

HostQuery::~HostQuery() { AbandonParts(); }

void HostQuery::Start() {
  next_source_ = 0;
  names_.clear();
  next_name_ = 0;
  error_ = ARES_ENOTFOUND;
  Proceed();
}

// `this` may be gone when this returns.
void HostQuery::Proceed() {
  const std::string& sources = context_->dns->sources();
  for (;;) {
    if (next_name_ < names_.size()) {
      Ask(names_[next_name_++]);
      return;
    }
    if (next_source_ == sources.size()) {
      Finish(AresToStatus(error_, host_));
      return;
    }
    if (sources[next_source_++] == 'f') {
      Addresses found = context_->hosts_file->Find(host_);
      if (!found.empty()) {
        SortByRoute(&found);
        Finish(std::move(found));
        return;
      }
    } else {
      names_ = context_->dns->SearchNamesOf(host_);
      next_name_ = 0;
    }
  }
}

// `this` may be gone when this returns: c-ares calls back inline if it cannot
// send.
void HostQuery::Ask(const std::string& name) {
  is_asking_ = true;
  grace_end_nanoseconds_ = kNever;
  found_ = {};
  results_ = {};
  for (size_t i = 0; i < kFamilies.size(); ++i) {
    parts_[i] = new Part{context_, this, i};
  }
  for (size_t i = 0; i < kFamilies.size(); ++i) {
    context_->dns->Ask(name, kFamilies[i], &OnPart, parts_[i]);
  }
  is_asking_ = false;
  OnPartDone();
}

void HostQuery::OnPart(void* part_pointer, int result, int /*timeouts*/,
                       ares_addrinfo* info) {
  const std::unique_ptr<Part> part(static_cast<Part*>(part_pointer));
  Addresses addresses;
  if (info != nullptr) {
    addresses = ToAddresses(*info);
    ares_freeaddrinfo(info);
  }
  Context* const context = part->context;
  HostQuery* const query = part->query;
  if (query == nullptr) {
    context->abandoned_parts.fetch_sub(1);
    return;
  }
  if (result == ARES_SUCCESS && addresses.empty()) result = ARES_ENODATA;
  query->parts_[part->family] = nullptr;
  query->results_[part->family] = result;
  query->found_[part->family] = std::move(addresses);
  if (!context->dns->is_closing() && !query->is_asking_) query->OnPartDone();
}

// `this` may be gone when this returns.
void HostQuery::OnPartDone() {
  if (parts_[0] == nullptr && parts_[1] == nullptr) {
    Conclude();
    return;
  }
  if (parts_[0] != nullptr && parts_[1] != nullptr) return;
  const int64_t grace_nanoseconds = GraceNanoseconds();
  if (grace_nanoseconds == kNever) return;
  grace_end_nanoseconds_ = RealNowNanoseconds() + grace_nanoseconds;
  context_->next_grace_end_nanoseconds =
      std::min(context_->next_grace_end_nanoseconds, grace_end_nanoseconds_);
}

// How long the other family is awaited; see `HostLookup`.
int64_t HostQuery::GraceNanoseconds() const {
  const HostLookupOptions& options = *context_->options;
  const size_t done = parts_[0] == nullptr ? 0 : 1;
  if (std::any_of(found_[done].begin(), found_[done].end(),
                  options.has_route)) {
    return absl::ToInt64Nanoseconds(options.family_grace);
  }
  if (results_[done] != ARES_ENOTFOUND) return kNever;
  return absl::ToInt64Nanoseconds(kFamilies[done] == AF_INET
                                      ? options.family_grace
                                      : context_->dns->attempt_timeout());
}

// Nothing more is awaited for the current name. `this` may be gone when this
// returns.
void HostQuery::Conclude() {
  AbandonParts();
  Addresses addresses = std::move(found_[0]);
  addresses.insert(addresses.end(), found_[1].begin(), found_[1].end());
  if (!addresses.empty()) {
    if (addresses.size() > 1) SortByRoute(&addresses);
    Finish(std::move(addresses));
    return;
  }
  const int result = CombineFamilyResults(results_[0], results_[1]);
  if (!TriesNextName(result)) {
    Finish(AresToStatus(result, host_));
    return;
  }
  if (error_ != ARES_ESERVFAIL) error_ = result;
  Proceed();
}

// What c-ares still finds for the current name is ignored.
void HostQuery::AbandonParts() {
  grace_end_nanoseconds_ = kNever;
  for (Part*& part : parts_) {
    if (part == nullptr) continue;
    part->query = nullptr;
    part = nullptr;
    context_->abandoned_parts.fetch_add(1);
  }
}

void HostQuery::SortByRoute(Addresses* addresses) const {
  std::stable_partition(addresses->begin(), addresses->end(),
                        context_->options->has_route);
}

void HostQuery::Finish(const absl::StatusOr<Addresses>& result) {
  AbandonParts();
  context_->on_result(host_, result);
}

}  // namespace internal
}  // namespace dns
}  // namespace udpgate
