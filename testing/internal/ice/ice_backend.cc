#include "testing/internal/ice/ice_backend.h"

#include <cstdlib>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace udpgate {
namespace test {

IceBackend::IceBackend(IceBackendOptions options)
    : options_(std::move(options)),
      responder_(options_.ports == IcePorts::kOneForAll
                     ? std::make_unique<OnePortResponder>(
                           options_.address.WithPort(0),
                           absl::StrCat(options_.name, ":"))
                     : nullptr),
      signaling_(options_.address, [this](const StubRequest& request) {
        return Handle(request);
      }) {}

void IceBackend::SetFailure(int status) {
  internal::MutexLock lock(&mutex_);
  failure_ = status;
}

void IceBackend::SetAnswerDelay(absl::Duration delay) {
  internal::MutexLock lock(&mutex_);
  delay_ = delay;
}

std::vector<StubRequest> IceBackend::offers() const {
  internal::MutexLock lock(&mutex_);
  return offers_;
}

int IceBackend::gets() const {
  internal::MutexLock lock(&mutex_);
  return gets_;
}

std::vector<std::string> IceBackend::ufrags() const {
  internal::MutexLock lock(&mutex_);
  return ufrags_;
}

std::set<std::string> IceBackend::SourcesOf(const std::string& ufrag) const {
  return responder_->SourcesOf(ufrag);
}

StubResponse IceBackend::Handle(const StubRequest& request) {
  absl::Duration delay;
  {
    internal::MutexLock lock(&mutex_);
    if (request.method == "GET") ++gets_;
    if (request.method == "POST") offers_.push_back(request);
    if (failure_ != 0) return {failure_, "text/plain", "not now"};
    delay = delay_;
  }
  if (request.method == "GET" && request.target == "/v1/join") {
    return {200, "application/json",
            absl::StrCat(R"({"name":")", options_.name, R"(","players":1})")};
  }
  if (request.method == "POST" &&
      absl::StartsWith(request.target, "/v1/join/")) {
    absl::SleepFor(delay);  // a backend that takes its time
    return Answer(request);
  }
  return {404, "text/plain", "no such path"};
}

StubResponse IceBackend::Answer(const StubRequest& request) {
  const absl::StatusOr<IceDescription> offer = FromSdp(request.body);
  if (!offer.ok()) return {400, "text/plain", offer.status().ToString()};
  const IceDescription answer = NewPlayer(*offer);
  internal::MutexLock lock(&mutex_);
  ufrags_.push_back(answer.ufrag);
  return {200, "application/sdp", ToSdp(answer, /*is_offer=*/false)};
}

IceDescription IceBackend::NewPlayer(const IceDescription& offer) {
  if (responder_ != nullptr) {
    internal::MutexLock lock(&mutex_);
    IceDescription answer;
    answer.ufrag = absl::StrCat(options_.name, offers_.size());
    answer.password = absl::StrCat("thePasswordOfAnAnswer", offers_.size());
    answer.candidates = {responder_->address()};
    responder_->Add(answer.ufrag, answer.password);
    return answer;
  }
  IceAgentOptions agent_options;
  agent_options.is_controlling = false;
  agent_options.addresses = {options_.address.IpToString()};
  std::unique_ptr<IceAgent> agent = IceAgent::Create(agent_options).value();
  IceAgent* const raw = agent.get();
  raw->SetReceiver([this, raw](absl::string_view payload) {
    raw->Send(absl::StrCat(options_.name, ":", payload)).IgnoreError();
  });
  if (!raw->SetRemote(offer).ok()) std::abort();
  internal::MutexLock lock(&mutex_);
  agents_.push_back(std::move(agent));
  return raw->description();
}

}  // namespace test
}  // namespace udpgate
