#include "udpgate/redis/internal/node_link.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

using udpgate::internal::MutexLock;

RedisOptions OptionsOfNode(RedisOptions options, const std::string& node) {
  options.address = node;
  options.address_source = nullptr;
  options.nodes = nullptr;
  options.outage_log = nullptr;  // it gathers those of one server
  return options;
}

}  // namespace

NodeLink::NodeLink(RedisOptions options, const std::string& node,
                   std::shared_ptr<HostLookup> lookup, Answered answered)
    : options_(OptionsOfNode(std::move(options), node)),
      node_(node),
      answered_(std::move(answered)),
      connection_(options_, std::move(lookup), "backend keys",
                  "udpgate-redis-n", this) {}

void NodeLink::Ask(KeyQuestion question) {
  pending_.fetch_add(1);
  {
    MutexLock lock(&mutex_);
    incoming_.push_back(std::move(question));
  }
  connection_.Wake();
}

void NodeLink::OnConnected() {
  is_connected_.store(true);
  patience_end_nanoseconds_ = INT64_MIN;
  connection_.LogRecovery("connected");
}

int64_t NodeLink::OnIteration(int64_t now_nanoseconds) {
  {
    MutexLock lock(&mutex_);
    for (; !incoming_.empty(); incoming_.pop_front()) {
      waiting_.push_back(std::move(incoming_.front()));
    }
  }
  if (waiting_.empty()) return Connection::kNever;
  connection_.ReconnectSoon();
  while (connection_.is_connected() && !waiting_.empty() &&
         in_flight_.size() < static_cast<size_t>(options_.gets_in_flight_max)) {
    KeyQuestion question = std::move(waiting_.front());
    waiting_.pop_front();
    Send(std::move(question));
  }
  if (!connection_.is_waiting()) return Connection::kNever;
  if (now_nanoseconds < patience_end_nanoseconds_) {
    return patience_end_nanoseconds_;
  }
  const absl::Status why = connection_.Health();
  for (KeyQuestion& question : std::exchange(waiting_, {})) {
    Answer(NodeAnswer::Kind::kNoServer, std::move(question), why);
  }
  return Connection::kNever;
}

void NodeLink::Send(KeyQuestion question) {
  ++question.gets;
  if (question.is_asking) {
    connection_.SendAsking({"GET", question.key});
  } else {
    connection_.Send({"GET", question.key});
  }
  in_flight_.push_back(std::move(question));
}

void NodeLink::Answer(NodeAnswer::Kind kind, KeyQuestion question,
                      const absl::Status& status) {
  NodeAnswer answer;
  answer.question = std::move(question);
  answer.kind = kind;
  answer.status = status;
  answer.node = node_;
  pending_.fetch_sub(1);
  answered_(std::move(answer));
}

void NodeLink::OnReply(const redisReply& reply) {
  if (IsLoginRevoked(reply)) {
    connection_.DropClosed(connection_.ErrorToStatus(reply),
                           RedisProblem::kLogin);
    return;
  }
  NodeAnswer answer;
  answer.question = std::move(in_flight_.front());
  in_flight_.pop_front();
  answer.reply_type = reply.type;
  answer.text = std::string(ReplyText(reply));
  answer.node = node_;
  if (reply.type == REDIS_REPLY_ERROR) {
    answer.status = connection_.ErrorToStatus(reply);
    if (IsTemporaryError(answer.text)) connection_.LogErrorReply("GET", reply);
    connection_.OnErrorReply(reply);
  } else if (connection_.problem() != RedisProblem::kNone) {
    connection_.LogRecovery("replies without errors again");
  }
  pending_.fetch_sub(1);
  answered_(std::move(answer));
}

void NodeLink::OnLost(const absl::Status& why) {
  is_connected_.store(false);
  const int64_t now_nanoseconds = options_.clock->NowNanoseconds();
  if (connection_.was_closed_in_use()) {
    patience_end_nanoseconds_ =
        now_nanoseconds + absl::ToInt64Nanoseconds(options_.reconnect_patience);
  }
  const NodeAnswer::Kind kind =
      connection_.was_closed_in_use() || absl::IsResourceExhausted(why)
          ? NodeAnswer::Kind::kLost
          : NodeAnswer::Kind::kBroken;
  std::deque<KeyQuestion> in_flight = std::exchange(in_flight_, {});
  for (KeyQuestion& question : in_flight) {
    // The reply to the oldest one was too long.
    const bool is_too_long =
        absl::IsResourceExhausted(why) && &question == &in_flight.front();
    Answer(is_too_long ? NodeAnswer::Kind::kTooLong : kind, std::move(question),
           why);
  }
  if (now_nanoseconds < patience_end_nanoseconds_) return;
  for (KeyQuestion& question : std::exchange(waiting_, {})) {
    Answer(NodeAnswer::Kind::kNoServer, std::move(question), why);
  }
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
