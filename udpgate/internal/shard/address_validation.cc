#include "udpgate/internal/shard/address_validation.h"

#include "absl/types/optional.h"
#include "udpgate/internal/net/socket_options.h"

namespace udpgate {
namespace internal {

void AddressValidation::NoteClientActive(Session* session) {
  int proof_count = session->proof_count;
  if (session->has_unanswered_reply) {
    session->has_unanswered_reply = false;
    if (proof_count == 0) {
      session->first_proof_nanoseconds = shard_->now_nanoseconds;
    }
    proof_count = std::min(proof_count + 1, Lifecycle::kProofCount);
  }
  lifecycle_->NoteClientActive(proof_count, session);
  if (proof_count == Lifecycle::kProofCount &&
      shard_->now_nanoseconds - session->first_proof_nanoseconds >=
          kProofNanoseconds) {
    lifecycle_->MoveTo(SessionState::kConfirmed, session);
  }
}

bool AddressValidation::TakeReplyBytes(size_t bytes, Session* session) {
  const int64_t bytes_left = ReplyBytesLeft(*session);
  if (bytes_left == INT64_MAX) return true;
  if (static_cast<int64_t>(bytes) > bytes_left && !session->may_trickle) {
    return false;
  }
  session->may_trickle = false;
  session->reply_bytes += bytes;
  return true;
}

bool AddressValidation::MayRead(Session* session) {
  const absl::optional<size_t> bytes =
      NextDatagramBytes(shard_->sys_calls, session->upstream_fd);
  if (!bytes.has_value()) return false;
  return session->may_trickle ||
         static_cast<int64_t>(*bytes) <= ReplyBytesLeft(*session) ||
         !upstreams_->Pause(session);
}

void AddressValidation::AllowOneReply(Session* session) {
  if (session->state != SessionState::kUnconfirmed ||
      shard_->now_nanoseconds - session->created_nanoseconds <
          kOneReplyAgeNanoseconds) {
    return;
  }
  session->may_trickle = !HasRoomFor(1, *session);
  upstreams_->Resume(session);
}

}  // namespace internal
}  // namespace udpgate
