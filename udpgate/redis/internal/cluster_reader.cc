#include "udpgate/redis/internal/cluster_reader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "udpgate/redis/internal/get_pace.h"
#include "udpgate/redis/internal/slot_map.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

using udpgate::internal::MutexLock;

// A connection that nobody used for so long is closed.
constexpr absl::Duration kUnusedMax = absl::Minutes(1);
constexpr absl::Duration kCleanupInterval = absl::Seconds(5);

}  // namespace

ClusterReader::ClusterReader(RedisOptions options,
                             std::shared_ptr<HostLookup> lookup,
                             std::function<void()> wake, Done done)
    : options_(std::move(options)),
      lookup_(std::move(lookup)),
      wake_(std::move(wake)),
      done_(std::move(done)) {}

void ClusterReader::Ask(uint64_t question_id, size_t key_index,
                        const std::string& key, absl::string_view redirect,
                        const std::string& replier) {
  KeyQuestion question;
  question.question = question_id;
  question.key_index = key_index;
  question.key = key;
  question.deadline_nanoseconds =
      options_.clock->NowNanoseconds() +
      absl::ToInt64Nanoseconds(options_.reconnect_patience);
  std::string node;
  if (!redirect.empty()) {
    ++question.redirects;
    node =
        options_.nodes->FollowRedirect(redirect, replier, &question.is_asking);
  }
  Send(std::move(question), std::move(node));
}

void ClusterReader::Send(KeyQuestion question, std::string node) {
  if (node.empty()) node = options_.nodes->NodeOf(question.key);
  Link* const link = FindLink(node);
  if (link == nullptr) {
    nodes_refused_.fetch_add(1);
    ended_.emplace_back(
        std::move(question),
        absl::UnavailableError(absl::StrCat(
            "Redis ", node, ": no connection is left for this node")));
    wake_();
    return;
  }
  if (question.gets > 0) gets_sent_again_.fetch_add(1);
  link->used_nanoseconds = options_.clock->NowNanoseconds();
  link->link->Ask(std::move(question));
}

ClusterReader::Link* ClusterReader::FindLink(const std::string& node) {
  const auto found = links_.find(node);
  if (found != links_.end()) return &found->second;
  if (links_.size() >= static_cast<size_t>(options_.node_connections_max) &&
      !MakeRoom()) {
    return nullptr;
  }
  auto made = std::make_unique<NodeLink>(
      options_, node, lookup_, [this](NodeAnswer answer) {
        {
          MutexLock lock(&inbox_.mutex);
          inbox_.answers.push_back(std::move(answer));
        }
        wake_();
      });
  if (!made->Start().ok()) return nullptr;
  Link& link = links_[node];
  link.link = std::move(made);
  return &link;
}

bool ClusterReader::MakeRoom() {
  auto oldest = links_.end();
  for (auto link = links_.begin(); link != links_.end(); ++link) {
    if (link->second.link->pending() > 0) continue;
    if (oldest == links_.end() ||
        link->second.used_nanoseconds < oldest->second.used_nanoseconds) {
      oldest = link;
    }
  }
  if (oldest == links_.end()) return false;
  links_.erase(oldest);
  return true;
}

void ClusterReader::CloseUnused(int64_t now_nanoseconds) {
  if (now_nanoseconds < next_cleanup_nanoseconds_) return;
  next_cleanup_nanoseconds_ =
      now_nanoseconds + absl::ToInt64Nanoseconds(kCleanupInterval);
  const int64_t unused_nanoseconds =
      now_nanoseconds - absl::ToInt64Nanoseconds(kUnusedMax);
  for (auto link = links_.begin(); link != links_.end();) {
    const auto current = link++;
    if (current->second.link->pending() == 0 &&
        current->second.used_nanoseconds < unused_nanoseconds) {
      links_.erase(current);
    }
  }
}

int64_t ClusterReader::OnIteration(int64_t now_nanoseconds) {
  std::vector<NodeAnswer> answers;
  {
    MutexLock lock(&inbox_.mutex);
    answers.swap(inbox_.answers);
  }
  for (NodeAnswer& answer : answers) {
    TakeAnswer(std::move(answer), now_nanoseconds);
  }
  std::vector<std::pair<int64_t, KeyQuestion>> retries;
  retries.swap(retries_);
  for (auto& retry : retries) {
    if (retry.first > now_nanoseconds) {
      retries_.push_back(std::move(retry));
    } else {
      Send(std::move(retry.second), "");
    }
  }
  for (const auto& ended : std::exchange(ended_, {})) {
    End(ended.first, ended.second);
  }
  CloseUnused(now_nanoseconds);
  uint64_t connected = 0;
  for (const auto& link : links_) connected += link.second.link->is_connected();
  nodes_connected_.store(connected);
  int64_t next_nanoseconds =
      links_.empty() ? Connection::kNever : next_cleanup_nanoseconds_;
  for (const auto& retry : retries_) {
    next_nanoseconds = std::min(next_nanoseconds, retry.first);
  }
  return next_nanoseconds;
}

void ClusterReader::TakeAnswer(NodeAnswer answer, int64_t now_nanoseconds) {
  if (answer.kind == NodeAnswer::Kind::kTooLong) {
    End(answer.question, absl::InvalidArgumentError(answer.status.message()));
    return;
  }
  if (answer.kind != NodeAnswer::Kind::kReply) {
    TakeLoss(std::move(answer), now_nanoseconds);
    return;
  }
  const auto link = links_.find(answer.node);
  if (link != links_.end()) link->second.lost_nanoseconds = INT64_MAX;
  if (answer.reply_type == REDIS_REPLY_ERROR) {
    TakeError(std::move(answer), now_nanoseconds);
    return;
  }
  down_nanoseconds_ = INT64_MAX;
  KeyResult result;
  result.reply_type = answer.reply_type;
  result.text = std::move(answer.text);
  done_(answer.question.question, answer.question.key_index, std::move(result));
}

void ClusterReader::TakeError(NodeAnswer answer, int64_t now_nanoseconds) {
  if (IsRedirect(answer.text)) {
    TakeRedirect(std::move(answer), now_nanoseconds);
    return;
  }
  if (absl::StartsWith(answer.text, "TRYAGAIN")) {
    Retry(std::move(answer), now_nanoseconds);
    return;
  }
  if (IsTemporaryError(answer.text)) options_.nodes->Distrust(answer.node);
  if (absl::StartsWith(answer.text, "CLUSTERDOWN")) {
    // Waiting helps while it is about to end, not in a long outage.
    down_nanoseconds_ = std::min(down_nanoseconds_, now_nanoseconds);
    if (now_nanoseconds - down_nanoseconds_ <=
        absl::ToInt64Nanoseconds(options_.reconnect_patience)) {
      Retry(std::move(answer), now_nanoseconds);
      return;
    }
  }
  KeyResult result;
  result.reply_type = REDIS_REPLY_ERROR;
  result.text = std::move(answer.text);
  result.status = std::move(answer.status);
  done_(answer.question.question, answer.question.key_index, std::move(result));
}

void ClusterReader::TakeRedirect(NodeAnswer answer, int64_t now_nanoseconds) {
  if (++answer.question.redirects > kRedirectsMax) {
    End(answer.question,
        absl::UnavailableError(absl::StrCat(answer.status.message(), ", after ",
                                            kRedirectsMax, " redirects")));
    return;
  }
  const std::string node = options_.nodes->FollowRedirect(
      answer.text, answer.node, &answer.question.is_asking);
  if (node.empty()) {
    Retry(std::move(answer), now_nanoseconds);
    return;
  }
  Send(std::move(answer.question), node);
}

void ClusterReader::TakeLoss(NodeAnswer answer, int64_t now_nanoseconds) {
  options_.nodes->Distrust(answer.node);
  const auto link = links_.find(answer.node);
  if (link == links_.end()) {
    Retry(std::move(answer), now_nanoseconds);
    return;
  }
  int64_t& lost_nanoseconds = link->second.lost_nanoseconds;
  lost_nanoseconds = std::min(lost_nanoseconds, now_nanoseconds);
  const bool is_new_loss =
      now_nanoseconds - lost_nanoseconds <=
      absl::ToInt64Nanoseconds(options_.reconnect_patience);
  const bool has_moved =
      options_.nodes->NodeOf(answer.question.key) != answer.node;
  if (answer.kind == NodeAnswer::Kind::kBroken ||
      answer.question.gets >= kGetsPerRequestMax ||
      (!is_new_loss && !has_moved)) {
    End(answer.question, answer.status);
    return;
  }
  Retry(std::move(answer), now_nanoseconds);
}

void ClusterReader::Retry(NodeAnswer answer, int64_t now_nanoseconds) {
  if (now_nanoseconds >= answer.question.deadline_nanoseconds) {
    End(answer.question, answer.status.ok()
                             ? absl::UnavailableError(absl::StrCat(
                                   "Redis ", answer.node, ": no reply in time"))
                             : answer.status);
    return;
  }
  answer.question.is_asking = false;
  const int64_t wait_nanoseconds = absl::ToInt64Nanoseconds(kRetryIntervalMin)
                                   << answer.question.waits++;
  retries_.emplace_back(std::min(now_nanoseconds + wait_nanoseconds,
                                 answer.question.deadline_nanoseconds),
                        std::move(answer.question));
}

void ClusterReader::End(const KeyQuestion& question, const absl::Status& why) {
  KeyResult result;
  result.is_reply = false;
  result.status = why;
  done_(question.question, question.key_index, std::move(result));
}

ClusterReader::Stats ClusterReader::GetStats() const {
  Stats stats;
  stats.nodes_connected = nodes_connected_.load();
  stats.nodes_refused = nodes_refused_.load();
  stats.gets_sent_again = gets_sent_again_.load();
  return stats;
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
