#include "udpgate/internal/shard/handed_session.h"

namespace udpgate {
namespace internal {

HandedSession ToHanded(const Session& session) {
  HandedSession handed;
  handed.id = session.id;
  handed.state = session.state;
  handed.client = session.client;
  handed.local = session.local;
  handed.backend = session.backend;
  handed.relay = session.relay;
  handed.label = session.label;
  handed.listener = session.listener;
  handed.refusals = session.refusals;
  handed.has_answered = session.has_answered;
  handed.has_unanswered_reply = session.has_unanswered_reply;
  handed.proof_count = session.proof_count;
  handed.first_proof_nanoseconds = session.first_proof_nanoseconds;
  handed.created_nanoseconds = session.created_nanoseconds;
  handed.last_active_nanoseconds = session.last_active_nanoseconds;
  handed.client_active_nanoseconds = session.client_active_nanoseconds;
  handed.unanswered_since_nanoseconds = session.unanswered_since_nanoseconds;
  handed.resolve_deadline_nanoseconds = session.resolve_deadline_nanoseconds;
  handed.reply_bytes = session.reply_bytes;
  handed.client_datagrams_forwarded = session.client_datagrams_forwarded;
  handed.client_bytes_forwarded = session.client_bytes_forwarded;
  handed.backend_datagrams_forwarded = session.backend_datagrams_forwarded;
  handed.backend_bytes_forwarded = session.backend_bytes_forwarded;
  return handed;
}

void FromHanded(const HandedSession& handed, Session* session) {
  session->local = handed.local;
  session->backend = handed.backend;
  session->relay = handed.relay;
  session->label = handed.label;
  session->listener = handed.listener;
  session->refusals = handed.refusals;
  session->has_answered = handed.has_answered;
  session->has_unanswered_reply = handed.has_unanswered_reply;
  session->first_proof_nanoseconds = handed.first_proof_nanoseconds;
  session->created_nanoseconds = handed.created_nanoseconds;
  session->last_active_nanoseconds = handed.last_active_nanoseconds;
  session->client_active_nanoseconds = handed.client_active_nanoseconds;
  session->unanswered_since_nanoseconds = handed.unanswered_since_nanoseconds;
  session->resolve_deadline_nanoseconds = handed.resolve_deadline_nanoseconds;
  session->reply_bytes = handed.reply_bytes;
  session->client_datagrams_forwarded = handed.client_datagrams_forwarded;
  session->client_bytes_forwarded = handed.client_bytes_forwarded;
  session->backend_datagrams_forwarded = handed.backend_datagrams_forwarded;
  session->backend_bytes_forwarded = handed.backend_bytes_forwarded;
}

}  // namespace internal
}  // namespace udpgate
