#include "testing/internal/ice/one_port_responder.h"

#include <stun/stunagent.h>
#include <stun/usages/ice.h>

#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"

namespace udpgate {
namespace test {
namespace {

constexpr uint16_t kKnownAttributes[] = {
    STUN_ATTRIBUTE_USERNAME,        STUN_ATTRIBUTE_MESSAGE_INTEGRITY,
    STUN_ATTRIBUTE_PRIORITY,        STUN_ATTRIBUTE_USE_CANDIDATE,
    STUN_ATTRIBUTE_ICE_CONTROLLING, STUN_ATTRIBUTE_ICE_CONTROLLED,
    STUN_ATTRIBUTE_FINGERPRINT,     0};

bool LooksLikeStun(const std::string& payload) {
  return payload.size() >= 20 && payload[0] >= 0 && payload[0] < 4 &&
         payload.compare(4, 4, "\x21\x12\xa4\x42") == 0;
}

// What `stun_agent_validate` asks for the password of a user.
struct Lookup {
  std::string ufrag;
  std::string password;
  const std::map<std::string, std::string>* passwords;
};

bool FindPassword(StunAgent*, StunMessage*, uint8_t* username, uint16_t size,
                  uint8_t** password, size_t* password_size, void* data) {
  auto* const lookup = static_cast<Lookup*>(data);
  const std::string name(reinterpret_cast<const char*>(username), size);
  lookup->ufrag = name.substr(0, name.find(':'));
  const auto found = lookup->passwords->find(lookup->ufrag);
  if (found == lookup->passwords->end()) return false;
  lookup->password = found->second;
  *password =
      reinterpret_cast<uint8_t*>(const_cast<char*>(lookup->password.data()));
  *password_size = lookup->password.size();
  return true;
}

}  // namespace

OnePortResponder::OnePortResponder(const SocketAddress& address,
                                   std::string prefix)
    : peer_(address), prefix_(std::move(prefix)), thread_([this] { Run(); }) {}

OnePortResponder::~OnePortResponder() {
  is_stopping_ = true;
  thread_.join();
}

void OnePortResponder::Add(const std::string& ufrag,
                           const std::string& password) {
  internal::MutexLock lock(&mutex_);
  passwords_[ufrag] = password;
}

std::set<std::string> OnePortResponder::SourcesOf(
    const std::string& ufrag) const {
  internal::MutexLock lock(&mutex_);
  const auto found = sources_.find(ufrag);
  return found == sources_.end() ? std::set<std::string>() : found->second;
}

void OnePortResponder::Run() {
  while (!is_stopping_) {
    absl::StatusOr<Datagram> datagram = peer_.Receive(absl::Milliseconds(20));
    if (!datagram.ok()) continue;
    const std::string answer = LooksLikeStun(datagram->payload)
                                   ? AnswerTo(*datagram)
                                   : absl::StrCat(prefix_, datagram->payload);
    if (!answer.empty()) peer_.Send(datagram->from, answer).IgnoreError();
  }
}

std::string OnePortResponder::AnswerTo(const Datagram& datagram) {
  internal::MutexLock lock(&mutex_);
  StunAgent agent;
  stun_agent_init(
      &agent, kKnownAttributes, STUN_COMPATIBILITY_RFC5389,
      static_cast<StunAgentUsageFlags>(STUN_AGENT_USAGE_SHORT_TERM_CREDENTIALS |
                                       STUN_AGENT_USAGE_USE_FINGERPRINT));
  StunMessage request;
  Lookup lookup{"", "", &passwords_};
  const auto status = stun_agent_validate(
      &agent, &request,
      reinterpret_cast<const uint8_t*>(datagram.payload.data()),
      datagram.payload.size(), FindPassword, &lookup);
  if (stun_message_get_class(&request) != STUN_REQUEST) return "";
  if (status != STUN_VALIDATION_SUCCESS) {
    ++refused_;
    return "";
  }
  sources_[lookup.ufrag].insert(datagram.from.ToString());
  StunMessage response;
  uint8_t buffer[1024];
  size_t size = sizeof(buffer);
  sockaddr_storage from;
  const socklen_t from_size =
      datagram.from.ToSockaddr(datagram.from.family(), &from);
  bool is_controlling = false;
  stun_usage_ice_conncheck_create_reply(
      &agent, &request, &response, buffer, &size, &from, from_size,
      &is_controlling, 1, STUN_USAGE_ICE_COMPATIBILITY_RFC5245);
  return std::string(reinterpret_cast<const char*>(buffer), size);
}

}  // namespace test
}  // namespace udpgate
