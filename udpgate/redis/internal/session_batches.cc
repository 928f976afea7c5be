#include "udpgate/redis/internal/session_batches.h"

#include <algorithm>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "udpgate/redis/internal/session_calls.h"
#include "udpgate/redis/internal/session_replies.h"
#include "udpgate/stored_session.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

using Outcome = SessionStore::Outcome;
using CommandReply = absl::StatusOr<const redisReply*>;
using Texts = std::vector<std::string>;

constexpr int64_t kLifetimeMillisecondsMax = int64_t{10} * 365 * 86'400 * 1000;
constexpr char kOutcomesOfAdopt[] = "daol";

}  // namespace

int64_t LifetimeMilliseconds(absl::Duration lifetime) {
  return std::clamp<int64_t>(absl::ToInt64Milliseconds(lifetime), 1,
                             kLifetimeMillisecondsMax);
}

decltype(SessionCommand::done) OutcomesInto(Results<Outcome> results,
                                            size_t begin, size_t end,
                                            absl::string_view allowed) {
  return [results = std::move(results), begin, end,
          allowed](const CommandReply& reply) {
    if (!reply.ok()) return true;
    std::vector<Outcome> outcomes;
    if (!ReadOutcomes(**reply, end - begin, allowed, &outcomes)) return false;
    std::copy(outcomes.begin(), outcomes.end(), results->begin() + begin);
    return true;
  };
}

std::vector<SessionCommand> SessionBatches::Write(
    const std::vector<StoredSession>& sessions, absl::Duration lifetime,
    const Results<Outcome>& results) const {
  std::vector<SessionCommand> commands;
  const auto is_same = [&](size_t a, size_t b) {
    return sessions[a].gateway_id == sessions[b].gateway_id;
  };
  ForEachBatch(sessions.size(), is_same, [&](size_t begin, size_t end) {
    const std::string& id = sessions[begin].gateway_id;
    Texts names = {keys_.Gateways(), keys_.Index(id)};
    Texts arguments = {keys_.prefix(),
                       absl::StrCat(LifetimeMilliseconds(lifetime)),
                       EscapeGatewayId(id)};
    for (size_t i = begin; i < end; ++i) {
      names.push_back(keys_.Record(sessions[i].client));
      arguments.push_back(EncodeStoredSession(sessions[i]));
    }
    commands.push_back(ScriptCommand("write records", kWriteScript,
                                     std::move(names), std::move(arguments),
                                     end - begin));
    commands.back().done = OutcomesInto(results, begin, end, kOutcomesOfOwner);
  });
  return commands;
}

std::vector<SessionCommand> SessionBatches::Adopt(
    const std::vector<SessionStore::Adoption>& adoptions,
    absl::Duration lifetime, const Results<Outcome>& results) const {
  std::vector<SessionCommand> commands;
  const auto is_same = [&](size_t a, size_t b) {
    return adoptions[a].adopted.gateway_id == adoptions[b].adopted.gateway_id;
  };
  ForEachBatch(adoptions.size(), is_same, [&](size_t begin, size_t end) {
    const std::string& id = adoptions[begin].adopted.gateway_id;
    Texts names = {keys_.Gateways(), keys_.Index(id)};
    Texts arguments = {keys_.prefix(),
                       absl::StrCat(LifetimeMilliseconds(lifetime)),
                       EscapeGatewayId(id)};
    for (size_t i = begin; i < end; ++i) {
      const SessionStore::Adoption& adoption = adoptions[i];
      names.push_back(keys_.Record(adoption.adopted.client));
      arguments.push_back(SessionTokenText(adoption.from));
      arguments.push_back(EscapeGatewayId(adoption.unless_lives));
      arguments.push_back(EncodeStoredSession(adoption.adopted));
    }
    commands.push_back(ScriptCommand("adopt records", kAdoptScript,
                                     std::move(names), std::move(arguments),
                                     end - begin));
    commands.back().done = OutcomesInto(results, begin, end, kOutcomesOfAdopt);
  });
  return commands;
}

std::vector<SessionCommand> SessionBatches::OfOwner(
    absl::string_view what, const char* script,
    const std::vector<SessionStore::SessionKey>& session_keys,
    const Texts& arguments, const Results<Outcome>& results) const {
  std::vector<SessionCommand> commands;
  ForEachBatch(session_keys.size(), [&](size_t begin, size_t end) {
    Texts names;
    Texts all = arguments;
    for (size_t i = begin; i < end; ++i) {
      names.push_back(keys_.Record(session_keys[i].client));
      all.push_back(SessionTokenText(session_keys[i].token));
    }
    commands.push_back(ScriptCommand(what, script, std::move(names),
                                     std::move(all), end - begin));
    commands.back().done = OutcomesInto(results, begin, end, kOutcomesOfOwner);
  });
  return commands;
}

std::vector<SessionCommand> SessionBatches::Find(
    const std::vector<SocketAddress>& clients,
    const Results<SessionStore::Found>& results) const {
  std::vector<SessionCommand> commands;
  ForEachBatch(clients.size(), [&](size_t begin, size_t end) {
    Texts names;
    Texts texts;
    for (size_t i = begin; i < end; ++i) {
      texts.push_back(clients[i].ToString());
      names.push_back(keys_.Record(texts.back()));
    }
    commands.push_back(ScriptCommand("find records", kFindScript,
                                     std::move(names), {keys_.prefix()},
                                     end - begin));
    commands.back().is_urgent = true;
    commands.back().done = [records = &records_, results, begin,
                            texts =
                                std::move(texts)](const CommandReply& reply) {
      if (!reply.ok()) return true;
      std::vector<absl::string_view> values;
      if (!ReadTexts(**reply, 2 * texts.size(), &values)) return false;
      for (size_t i = 0; i < texts.size(); ++i) {
        SessionStore::Found* const found = &(*results)[begin + i];
        found->session = records->Read(texts[i], values[2 * i]);
        const absl::string_view lease = values[2 * i + 1];
        if (!found->session.has_value() || lease.empty()) continue;
        found->owner = DecodeLease(found->session->gateway_id, lease);
      }
      return true;
    };
  });
  return commands;
}

SessionCommand SessionBatches::ListCommand(
    const std::string& gateway_id, Texts clients,
    const Results<StoredSession>& results) const {
  Texts names = {keys_.Index(gateway_id)};
  for (const std::string& client : clients) {
    names.push_back(keys_.Record(client));
  }
  SessionCommand command = ScriptCommand(
      "list records", kListScript, std::move(names),
      {keys_.prefix(), EscapeGatewayId(gateway_id), "1"}, clients.size());
  command.done = [records = &records_, results,
                  clients = std::move(clients)](const CommandReply& reply) {
    if (!reply.ok()) return true;
    std::vector<absl::string_view> values;
    if (!ReadTexts(**reply, clients.size(), &values)) return false;
    for (size_t i = 0; i < clients.size(); ++i) {
      absl::optional<StoredSession> session =
          records->Read(clients[i], values[i]);
      if (session.has_value()) results->push_back(*std::move(session));
    }
    return true;
  };
  return command;
}

std::vector<SessionCommand> SessionBatches::Refresh(
    const std::vector<SessionStore::SessionKey>& session_keys,
    absl::Duration lifetime, const Results<Outcome>& results) const {
  return OfOwner("refresh records", kRefreshScript, session_keys,
                 {keys_.prefix(), absl::StrCat(LifetimeMilliseconds(lifetime))},
                 results);
}

std::vector<SessionCommand> SessionBatches::Remove(
    const std::vector<SessionStore::SessionKey>& session_keys,
    const Results<Outcome>& results) const {
  return OfOwner("remove records", kRemoveScript, session_keys,
                 {keys_.prefix()}, results);
}

std::vector<SessionCommand> SessionBatches::List(
    const std::string& gateway_id, const Texts& clients,
    const Results<StoredSession>& results) const {
  std::vector<SessionCommand> commands;
  ForEachBatch(clients.size(), [&](size_t begin, size_t end) {
    commands.push_back(ListCommand(
        gateway_id, Texts(clients.begin() + begin, clients.begin() + end),
        results));
  });
  return commands;
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
