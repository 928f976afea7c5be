// The resolver and the disconnect source at a TCP peer that answers with the
// input: threads, sockets, login, frame checker, hiredis, and what follows.
// The first byte of the input chooses who asks, and whether the bytes come one
// by one.
#include <netinet/in.h>
#include <sys/socket.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "testing/internal/fuzz/rules.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/dns/host_port.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/logging.h"
#include "udpgate/redis/internal/reply_reader.h"
#include "udpgate/redis/internal/scripted_peer.h"
#include "udpgate/redis/redis_backend_resolver.h"
#include "udpgate/redis/redis_disconnect_source.h"
#include "udpgate/redis/redis_options.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {
namespace {

using redis::internal::Reply;
using redis::internal::ReplyReader;
using redis::internal::ReplyText;

constexpr absl::Duration kAnswerTimeout = absl::Seconds(10);

// Somebody waits here for what another thread does.
class Event {
 public:
  void Signal() {
    internal::MutexLock lock(&mutex_);
    has_come_ = true;
    condition_.SignalAll();
  }
  void Await(absl::string_view rule) {
    const auto deadline = std::chrono::steady_clock::now() +
                          absl::ToChronoNanoseconds(kAnswerTimeout);
    internal::MutexLock lock(&mutex_);
    while (!has_come_) {
      const auto left = deadline - std::chrono::steady_clock::now();
      Require(left.count() > 0, rule);
      condition_.WaitFor(&mutex_, left);
    }
  }

 private:
  internal::Mutex mutex_;
  internal::ConditionVariable condition_;
  bool has_come_ ABSL_GUARDED_BY(mutex_) = false;
};

// A HostLookup whose server never answers, and which does not wait long for it.
class UnansweredLookup {
 public:
  // Never destroyed, so that its thread outlives all inputs.
  static const std::shared_ptr<HostLookup>& Get() {
    static const auto* const instance = new UnansweredLookup;
    return instance->lookup_;
  }

 private:
  UnansweredLookup() : server_(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_storage storage;
    socklen_t size =
        SocketAddress::Ipv4Loopback(0).ToSockaddr(AF_INET, &storage);
    auto* const address = reinterpret_cast<sockaddr*>(&storage);
    Require(bind(server_.get(), address, size) == 0 &&
                getsockname(server_.get(), address, &size) == 0,
            "a port is free");
    HostLookupOptions options;
    options.dns_servers = SocketAddress::FromSockaddr(address, size).ToString();
    options.attempt_timeout = absl::Milliseconds(1);
    options.attempts_max = 1;
    auto made = HostLookup::Create(options);
    Require(made.ok(), "a HostLookup can be made");
    lookup_ = *std::move(made);
  }

  const internal::UniqueFd server_;
  std::shared_ptr<HostLookup> lookup_;
};

// Waits for the peer alone: nothing here may depend on the time.
RedisOptions PatientOptions(const ScriptedPeer& peer, Event* lost) {
  RedisOptions options;
  options.address = peer.address();
  options.command_timeout = absl::Seconds(60);
  options.ping_interval = absl::Hours(1);
  options.reconnect_patience = absl::ZeroDuration();
  options.reconnect_backoff_min = absl::Hours(1);
  options.reconnect_backoff_max = absl::Hours(1);
  options.log_sink = [lost](LogSeverity severity, absl::string_view message) {
    Require(message.size() <= 1000, "a log line is short");
    if (severity == LogSeverity::kWarning) lost->Signal();
  };
  return options;
}

// Says `bytes` as soon as it reads this command, after the answer that a
// client of its needs to go on, and closes.
ScriptedPeer::Script SayAfter(absl::string_view command_name, std::string bytes,
                              bool is_byte_by_byte) {
  return [name = std::string(command_name), bytes = std::move(bytes),
          is_byte_by_byte](const ScriptedPeer::Command& command) {
    ScriptedPeer::Action action = ScriptedPeer::Healthy(command);
    if (command[0] != name) return action;
    action.bytes += bytes;
    action.close = true;
    action.is_byte_by_byte = is_byte_by_byte;
    return action;
  };
}

// All replies in `bytes`, and how the stream ends.
absl::Status ReadAll(absl::string_view bytes, std::vector<Reply>* replies) {
  ReplyReader reader;
  const absl::Status status = reader.Feed(bytes);
  for (;;) {
    absl::StatusOr<Reply> reply = reader.Next();
    Require(reply.ok(), "hiredis takes what the frame checker lets through");
    if (*reply == nullptr) return status;
    replies->push_back(*std::move(reply));
  }
}

// What a GET that is answered so comes to: one of these codes.
std::vector<absl::StatusCode> ExpectedCodes(absl::string_view bytes) {
  std::vector<Reply> replies;
  const absl::Status status = ReadAll(bytes, &replies);
  if (replies.empty()) {
    return {absl::IsResourceExhausted(status)
                ? absl::StatusCode::kInvalidArgument
                : absl::StatusCode::kUnavailable};
  }
  switch (replies[0]->type) {
    case REDIS_REPLY_NIL:
      return {absl::StatusCode::kNotFound};
    case REDIS_REPLY_ERROR:
      if (absl::StartsWith(ReplyText(*replies[0]), "WRONGTYPE")) {
        return {absl::StatusCode::kInvalidArgument};
      }
      return {absl::StatusCode::kFailedPrecondition,
              absl::StatusCode::kUnavailable};
    case REDIS_REPLY_STRING:
      break;
    default:
      return {absl::StatusCode::kUnavailable};
  }
  const absl::StatusOr<HostPort> value =
      HostPort::Parse(ReplyText(*replies[0]));
  if (!value.ok()) return {absl::StatusCode::kInvalidArgument};
  if (SocketAddress::FromIpAndPort(value->host, 0).ok()) {
    return {absl::StatusCode::kOk, absl::StatusCode::kInvalidArgument};
  }
  // From /etc/hosts, or not at all.
  return {absl::StatusCode::kOk, absl::StatusCode::kNotFound,
          absl::StatusCode::kUnavailable, absl::StatusCode::kDeadlineExceeded};
}

void RequireIsTheBackend(absl::string_view bytes, const ResolveResult& result) {
  std::vector<Reply> replies;
  ReadAll(bytes, &replies).IgnoreError();
  const absl::string_view value = ReplyText(*replies[0]);
  Require(result.label == absl::StripAsciiWhitespace(value),
          "the label is what the key holds");
  Require(result.backend.is_valid() &&
              result.backend.port() == HostPort::Parse(value)->port,
          "the backend has the port that the key holds");
}

void TryResolver(const std::string& bytes, bool is_byte_by_byte) {
  Event answered;
  Event lost;
  absl::StatusOr<ResolveResult> answer;
  {
    ScriptedPeer peer(SayAfter("GET", bytes, is_byte_by_byte));
    auto resolver = RedisBackendResolver::Create(PatientOptions(peer, &lost),
                                                 UnansweredLookup::Get());
    Require(resolver.ok(), "a resolver can be made");
    ResolveRequest request;
    request.timeout = kAnswerTimeout;
    (*resolver)->Resolve(request, [&](absl::StatusOr<ResolveResult> result) {
      answer = std::move(result);
      answered.Signal();
    });
    answered.Await("a question is answered whatever Redis says");
    lost.Await("a connection that Redis closes is noticed");
    resolver->reset();
    Require(peer.command_count("GET") == 1, "a question costs one GET");
  }
  bool is_expected = false;
  for (const absl::StatusCode code : ExpectedCodes(bytes)) {
    if (answer.status().code() == code) is_expected = true;
  }
  Require(is_expected, absl::StrCat("this is no answer to that value: ",
                                    answer.status().ToString()));
  if (answer.ok()) RequireIsTheBackend(bytes, *answer);
}

// An event or the error of one, to compare.
std::string Describe(const absl::StatusOr<DisconnectTarget>& event) {
  return event.ok() ? event->ToString() : event.status().ToString();
}

std::vector<std::string> ExpectedEvents(absl::string_view bytes) {
  std::vector<std::string> events;
  std::vector<Reply> replies;
  const absl::Status status = ReadAll(bytes, &replies);
  for (const Reply& reply : replies) {
    // Anything but a message ends the connection.
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3 ||
        ReplyText(*reply->element[0]) != "message" ||
        reply->element[2]->type != REDIS_REPLY_STRING) {
      return events;
    }
    events.push_back(
        Describe(DisconnectTarget::Parse(ReplyText(*reply->element[2]))));
  }
  if (absl::IsResourceExhausted(status)) events.push_back("too long");
  return events;
}

void TrySource(const std::string& bytes, bool is_byte_by_byte) {
  Event lost;
  std::vector<std::string> events;  // of the source's thread, until `Stop`
  {
    ScriptedPeer peer(SayAfter("SUBSCRIBE", bytes, is_byte_by_byte));
    RedisOptions options = PatientOptions(peer, &lost);
    // A longer payload is covered by the limit of a frame.
    options.disconnect_payload_bytes_max = 32768;
    auto source =
        RedisDisconnectSource::Create(options, UnansweredLookup::Get());
    Require(source.ok(), "a source can be made");
    const absl::Status started =
        (*source)->Start([&](absl::StatusOr<DisconnectTarget> event) {
          events.push_back(Describe(event));
        });
    Require(started.ok(), "a source starts");
    lost.Await("a connection that Redis closes is noticed");
    (*source)->Stop();
  }
  std::vector<std::string> expected = ExpectedEvents(bytes);
  Require(events.size() == expected.size(), "each message is one event");
  for (size_t i = 0; i < events.size(); ++i) {
    Require(expected[i] == "too long" || events[i] == expected[i],
            "an event is what its payload says");
  }
}

}  // namespace
}  // namespace test
}  // namespace udpgate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string bytes(udpgate::test::AsText(data + 1, size - 1));
  const bool is_byte_by_byte = (data[0] & 2) != 0;
  if ((data[0] & 1) == 0) {
    udpgate::test::TryResolver(bytes, is_byte_by_byte);
  } else {
    udpgate::test::TrySource(bytes, is_byte_by_byte);
  }
  return 0;
}
