#include "udpgate/nethernet/join_service.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/nethernet/internal/deadlines.h"
#include "udpgate/nethernet/internal/join_attempt.h"
#include "udpgate/nethernet/internal/json_object.h"
#include "udpgate/nethernet/internal/service_context.h"
#include "udpgate/nethernet/internal/status_cache.h"

namespace udpgate {
namespace nethernet {
namespace {

using ::udpgate::internal::MutexLock;
using ::udpgate::nethernet::internal::JoinAttempt;
using ::udpgate::nethernet::internal::RateTable;
using ::udpgate::nethernet::internal::ServiceContext;
using ::udpgate::nethernet::internal::StatusCache;

constexpr absl::string_view kStatusPath = "/v1/join";
constexpr absl::string_view kJoinPathPrefix = "/v1/join/";
constexpr char kJson[] = "application/json";

http::Response JsonResponse(std::string json) {
  http::Response response;
  response.content_type = kJson;
  response.body = std::move(json);
  return response;
}

http::Response MethodNotAllowed(absl::string_view allowed) {
  http::Response response =
      http::JsonError(405, absl::StrCat("allowed methods: ", allowed));
  response.headers.push_back({"Allow", std::string(allowed)});
  return response;
}

// The media type, without parameters (RFC 9110 section 8.3.1).
bool IsSdpOrNone(const http::Request& request) {
  const std::string* type = request.FindHeader("Content-Type");
  if (type == nullptr) return true;
  const absl::string_view name =
      absl::string_view(*type).substr(0, type->find(';'));
  return absl::EqualsIgnoreCase(absl::StripAsciiWhitespace(name),
                                "application/sdp");
}

bool MayAsk(const JoinServiceOptions& options, const SocketAddress& client) {
  return !options.deny_cidrs.Contains(client) &&
         (options.allow_cidrs.empty() || options.allow_cidrs.Contains(client));
}

}  // namespace

class JoinService::Impl {
 public:
  Impl(JoinServiceOptions options, JoinServiceDependencies dependencies)
      : context_(std::make_shared<ServiceContext>()),
        status_(std::make_shared<StatusCache>(context_)),
        has_room_(std::move(dependencies.has_room)) {
    context_->resolver = std::move(dependencies.resolver);
    context_->joins = std::move(dependencies.joins);
    context_->engine = dependencies.engine;
    context_->client = dependencies.client;
    context_->clock = dependencies.clock;
    context_->deadlines = std::make_shared<internal::Deadlines>(
        dependencies.engine, &context_->gate, dependencies.clock);
    context_->SetOptions(std::move(options));
  }

  void Handle(http::Request request, http::Server::Respond respond) {
    absl::string_view path = request.target;
    path = path.substr(0, path.find('?'));
    if (path == kStatusPath) {
      HandleStatus(request,
                   CountingRespond(RequestPath::kStatus, std::move(respond)));
    } else if (absl::ConsumePrefix(&path, kJoinPathPrefix)) {
      std::string network_id(path);
      HandleJoin(std::move(network_id), std::move(request),
                 CountingRespond(RequestPath::kJoin, std::move(respond)));
    } else {
      CountingRespond(RequestPath::kOther, std::move(respond))(
          http::JsonError(404, "paths: /v1/join, /v1/join/{networkId}"));
    }
  }

  void Stop() {
    context_->gate.Close();
    context_->deadlines->Clear();
    status_->Clear();
  }

  void SetDraining(bool is_draining) { is_draining_ = is_draining; }

  absl::Status SetFleetStatus(absl::optional<std::string> status_json) {
    if (status_json.has_value()) {
      const size_t bytes_max = context_->options()->status_bytes_max;
      if (status_json->size() > bytes_max) {
        return absl::InvalidArgumentError(
            absl::StrCat("the status has ", status_json->size(),
                         " bytes; allowed are ", bytes_max));
      }
      if (!internal::IsJsonObject(*status_json)) {
        return absl::InvalidArgumentError("the status is not a JSON object");
      }
    }
    MutexLock lock(&mutex_);
    fleet_status_.swap(status_json);
    return absl::OkStatus();
  }

  absl::Status SetOptions(JoinServiceOptions options) {
    absl::Status status = options.Validate();
    if (status.ok()) context_->SetOptions(std::move(options));
    return status;
  }

  JoinServiceStats GetStats() const { return context_->counters.Get(); }

 private:
  using Respond = http::Server::Respond;

  // `respond`, and counts the request.
  Respond CountingRespond(RequestPath path, Respond respond) const {
    return [context = context_, path,
            respond = std::move(respond)](http::Response response) mutable {
      context->counters.CountRequest(path, response.status);
      respond(std::move(response));
    };
  }

  void HandleStatus(const http::Request& request, Respond respond) {
    if (request.method != "GET" && request.method != "HEAD") {
      return respond(MethodNotAllowed("GET, HEAD"));
    }
    const auto options = context_->options();
    if (!MayAsk(*options, request.client)) {
      return respond(http::JsonError(403, "this address may not join"));
    }
    if (is_draining_) {
      return respond(http::JsonError(503, "the gateway is draining"));
    }
    if (absl::optional<std::string> fleet = FleetStatus(); fleet.has_value()) {
      return respond(JsonResponse(*std::move(fleet)));
    }
    status_->Get({request.client, request.local},
                 [context = context_, respond = std::move(respond)](
                     const StatusCache::Answer& answer) mutable {
                   if (answer != nullptr) return respond(*answer);
                   const auto now = context->options();
                   respond(now->status_json.empty()
                               ? http::JsonError(503, "no backend answers")
                               : JsonResponse(now->status_json));
                 });
  }

  void HandleJoin(std::string network_id, http::Request request,
                  Respond respond) {
    if (request.method != "POST") return respond(MethodNotAllowed("POST"));
    const int64_t begin_nanoseconds = context_->clock->NowNanoseconds();
    JoinAttempt::Done done =
        [context = context_, begin_nanoseconds, respond = std::move(respond)](
            JoinResult result, http::Response response) mutable {
          context->counters.CountJoin(result);
          if (result == JoinResult::kJoined) {
            context->counters.CountAnswer(context->clock->NowNanoseconds() -
                                          begin_nanoseconds);
          }
          respond(std::move(response));
        };
    const auto fail = [&done](JoinResult result, int status,
                              absl::string_view error) {
      done(result, http::JsonError(status, error));
    };
    if (!MayAsk(*context_->options(), request.client)) {
      return fail(JoinResult::kDenied, 403, "this address may not join");
    }
    if (!FitsRate(request.client, begin_nanoseconds)) {
      return fail(JoinResult::kRateLimited, 429, "this address asks too often");
    }
    if (is_draining_) {
      return fail(JoinResult::kDraining, 503, "the gateway is draining");
    }
    if (!internal::IsNetworkId(network_id)) {
      return fail(JoinResult::kBadRequest, 400,
                  "the network id must be 1 to 128 bytes of A-Z a-z 0-9 . _ ~ "
                  "-");
    }
    if (!IsSdpOrNone(request)) {
      return fail(JoinResult::kBadRequest, 415,
                  "the content type must be application/sdp");
    }
    if (has_room_ != nullptr && !has_room_()) {
      return fail(JoinResult::kSessionsFull, 503, "the gateway is full");
    }
    JoinAttempt::Start(context_, std::move(network_id), std::move(request),
                       std::move(done));
  }

  bool FitsRate(const SocketAddress& client, int64_t now_nanoseconds) {
    const auto options = context_->options();
    const RateTable::Verdict verdict = context_->rates.Take(
        client, options->joins_per_second_per_ip,
        static_cast<size_t>(options->rate_addresses_max), now_nanoseconds);
    if (verdict == RateTable::Verdict::kTableFull) {
      ++context_->counters.rate_table_full;
    }
    return verdict == RateTable::Verdict::kFits;
  }

  absl::optional<std::string> FleetStatus() const {
    MutexLock lock(&mutex_);
    return fleet_status_;
  }

  const std::shared_ptr<ServiceContext> context_;
  const std::shared_ptr<StatusCache> status_;
  const std::function<bool()> has_room_;
  std::atomic<bool> is_draining_{false};
  mutable udpgate::internal::Mutex mutex_;
  absl::optional<std::string> fleet_status_ ABSL_GUARDED_BY(mutex_);
};

absl::StatusOr<std::unique_ptr<JoinService>> JoinService::Create(
    JoinServiceOptions options, JoinServiceDependencies dependencies) {
  if (absl::Status status = options.Validate(); !status.ok()) {
    return status;
  }
  if (dependencies.resolver == nullptr || dependencies.joins == nullptr ||
      dependencies.engine == nullptr || dependencies.client == nullptr ||
      dependencies.clock == nullptr) {
    return absl::InvalidArgumentError(
        "a JoinService needs a resolver, a JoinTable, an Engine, a Client and "
        "a Clock");
  }
  return std::unique_ptr<JoinService>(new JoinService(
      std::make_unique<Impl>(std::move(options), std::move(dependencies))));
}

JoinService::JoinService(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

JoinService::~JoinService() { Stop(); }

void JoinService::Handle(http::Request request, http::Server::Respond respond) {
  impl_->Handle(std::move(request), std::move(respond));
}

void JoinService::Stop() { impl_->Stop(); }

void JoinService::SetDraining(bool is_draining) {
  impl_->SetDraining(is_draining);
}

absl::Status JoinService::SetFleetStatus(
    absl::optional<std::string> status_json) {
  return impl_->SetFleetStatus(std::move(status_json));
}

absl::Status JoinService::SetOptions(JoinServiceOptions options) {
  return impl_->SetOptions(std::move(options));
}

JoinServiceStats JoinService::GetStats() const { return impl_->GetStats(); }

}  // namespace nethernet
}  // namespace udpgate
