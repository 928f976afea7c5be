#include "udpgate/nethernet/internal/join_attempt.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "udpgate/nethernet/internal/sdp.h"

namespace udpgate {
namespace nethernet {
namespace internal {
namespace {

constexpr size_t kNetworkIdBytesMax = 128;

// How often a join asks for its backend, if disconnects make results outdated.
constexpr int kResolutionsMax = 3;

// The result and the status code for an error of http::Client.
struct Failure {
  JoinResult result;
  int status;
  absl::string_view error;
};

Failure FailureOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
      return {JoinResult::kBackendUnreachable, 502,
              "the backend's signaling cannot be reached"};
    case absl::StatusCode::kDeadlineExceeded:
      return {JoinResult::kBackendTimeout, 504,
              "the backend did not answer in time"};
    default:
      return {JoinResult::kBackendError, 502,
              "the backend's response is malformed, too large or incomplete"};
  }
}

}  // namespace

bool IsNetworkId(absl::string_view text) {
  return !text.empty() && text.size() <= kNetworkIdBytesMax && text != "." &&
         text != ".." && std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
                  c == '.' || c == '_' || c == '~' || c == '-';
         });
}

void JoinAttempt::Start(std::shared_ptr<ServiceContext> context,
                        std::string network_id, http::Request request,
                        Done done) {
  std::shared_ptr<JoinAttempt> attempt(
      new JoinAttempt(std::move(context), std::move(network_id),
                      std::move(request), std::move(done)));
  attempt->Begin();
}

JoinAttempt::JoinAttempt(std::shared_ptr<ServiceContext> context,
                         std::string network_id, http::Request request,
                         Done done)
    : context_(std::move(context)),
      options_(context_->options()),
      network_id_(std::move(network_id)),
      asker_{request.client, request.local},
      deadline_nanoseconds_(context_->clock->NowNanoseconds() +
                            absl::ToInt64Nanoseconds(options_->answer_timeout)),
      fits_(++context_->counters.joins_in_progress <=
            int64_t{options_->joins_in_progress_max}),
      offer_(std::move(request.body)),
      done_(std::move(done)) {}

JoinAttempt::~JoinAttempt() {
  if (done_ != nullptr) --context_->counters.joins_in_progress;
}

// Frees everything: a resolver may keep its callback for ever.
void JoinAttempt::Finish(JoinResult result, http::Response response) {
  --context_->counters.joins_in_progress;
  reservation_.reset();
  offer_ = std::string();
  Done done = std::exchange(done_, nullptr);
  done(result, std::move(response));
}

void JoinAttempt::Fail(JoinResult result, int status, absl::string_view error) {
  Finish(result, http::JsonError(status, error));
}

void JoinAttempt::Begin() {
  if (!fits_) {
    return Fail(JoinResult::kTableFull, 503, "too many joins are under way");
  }
  absl::StatusOr<std::string> offer = StripCandidates(offer_);
  if (!offer.ok()) {
    return Fail(
        JoinResult::kBadOffer, 400,
        absl::StrCat("the offer is invalid: ", offer.status().message()));
  }
  offer_ = *std::move(offer);
  // Before the resolution, so that no disconnect is missed meanwhile.
  absl::StatusOr<JoinTable::Reservation> reservation =
      context_->joins->Reserve(asker_.client);
  if (!reservation.ok()) {
    return Fail(JoinResult::kTableFull, 503, "too many joins are under way");
  }
  reservation_ = *std::move(reservation);
  Resolve();
}

void JoinAttempt::Resolve() {
  const absl::Duration timeout = std::min(
      options_->resolve_timeout, context_->Left(deadline_nanoseconds_));
  const int resolution = ++resolution_count_;
  awaited_resolution_ = resolution;
  auto self = shared_from_this();
  const Deadlines::Key key = context_->deadlines->Add(
      context_->clock->NowNanoseconds() + absl::ToInt64Nanoseconds(timeout),
      [self, resolution] {
        self->OnResolved(resolution,
                         absl::DeadlineExceededError("no result in time"));
      });
  ResolveRequest request;
  request.client = asker_.client;
  request.timeout = timeout;
  request.reason = ResolveRequest::Reason::kJoin;
  context_->resolver->Resolve(
      request, [self, key, resolution](absl::StatusOr<ResolveResult> result) {
        self->context_->deadlines->Remove(key);
        self->OnResolved(resolution, std::move(result));
      });
}

void JoinAttempt::OnResolved(int resolution,
                             absl::StatusOr<ResolveResult> result) {
  int awaited = resolution;
  if (!awaited_resolution_.compare_exchange_strong(awaited, 0)) return;
  if (absl::IsNotFound(result.status())) {
    return Fail(JoinResult::kNoBackend, 503, "there is no backend");
  }
  if (!result.ok() || !result->backend.is_valid()) {
    return Fail(JoinResult::kResolveFailed, 503,
                "the backend source gave no backend");
  }
  backend_ = *std::move(result);
  if (context_->joins
          ->SetBackend(*reservation_, backend_.backend, backend_.label)
          .ok()) {
    return AskBackend();
  }
  // What was asked before a disconnect may be outdated.
  if (resolution_count_ < kResolutionsMax) return Resolve();
  Fail(JoinResult::kDisconnected, 503, "a disconnect ended the join meanwhile");
}

void JoinAttempt::AskBackend() {
  BackendQuestion question;
  question.addresses = SignalingAddresses(backend_, options_->backend_port);
  question.asker = asker_;
  question.forward_client = options_->forward_client;
  question.method = "POST";
  question.target = absl::StrCat("/v1/join/", network_id_);
  question.body = std::move(offer_);
  question.response_bytes_max = options_->answer_bytes_max;
  question.deadline_nanoseconds = deadline_nanoseconds_;
  Ask(context_, std::move(question),
      [self = shared_from_this()](BackendAnswer answer) {
        self->OnAnswer(std::move(answer));
      });
}

void JoinAttempt::OnAnswer(BackendAnswer answer) {
  if (!answer.response.ok()) {
    const Failure failure = FailureOf(answer.response.status());
    return Fail(failure.result, failure.status, failure.error);
  }
  const int status = answer.response->status;
  if (status < 200 || status > 299) {
    return Fail(
        JoinResult::kBackendError, 502,
        absl::StrCat("the backend refused the join with status ", status));
  }
  Join(*std::move(answer.response), answer.address);
}

void JoinAttempt::Join(http::Response response,
                       const SocketAddress& signaling) {
  absl::StatusOr<Answer> answer = ParseAnswer(response.body);
  if (!answer.ok()) {
    return Fail(JoinResult::kBadAnswer, 502,
                absl::StrCat("the backend's answer is invalid: ",
                             answer.status().message()));
  }
  nethernet::Join join;
  join.network_id = network_id_;
  join.player = asker_.client;
  join.backend = backend_.backend;
  join.backend_label = backend_.label;
  join.media = ChooseMedia(*answer, signaling);
  join.ufrag = std::move(answer->ufrag);
  join.password = std::move(answer->password);
  const absl::Status status =
      context_->joins->Commit(*std::move(reservation_), std::move(join));
  reservation_.reset();
  if (absl::IsAlreadyExists(status)) {
    return Fail(JoinResult::kBadAnswer, 502,
                "the backend's answer has the user fragment of another join");
  }
  if (!status.ok()) {
    return Fail(JoinResult::kDisconnected, 503,
                "a disconnect ended the join meanwhile");
  }
  http::Response to_player;
  to_player.status = response.status;
  to_player.content_type = response.content_type.empty()
                               ? "application/sdp"
                               : std::move(response.content_type);
  to_player.body = RewriteAnswer(response.body, PublicAddresses());
  Finish(JoinResult::kJoined, std::move(to_player));
}

std::vector<SocketAddress> JoinAttempt::PublicAddresses() const {
  if (options_->public_addresses.empty()) {
    return {asker_.local.WithPort(options_->proxy_port)};
  }
  std::vector<SocketAddress> addresses = options_->public_addresses;
  for (SocketAddress& address : addresses) {
    if (address.port() == 0) address = address.WithPort(options_->proxy_port);
  }
  return addresses;
}

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate
