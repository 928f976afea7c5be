// What the tests of joins share.
#ifndef UDPGATE_NETHERNET_JOIN_FIXTURE_H_
#define UDPGATE_NETHERNET_JOIN_FIXTURE_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "gtest/gtest.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/nethernet/join_table.h"
#include "udpgate/socket_address.h"
#include "udpgate/stun/request_builder.h"

namespace udpgate {
namespace nethernet {
namespace test {

inline SocketAddress Address(absl::string_view text) {
  return SocketAddress::Parse(text).value();
}

// The password of the joins below.
inline std::string PasswordOf(absl::string_view ufrag) {
  return absl::StrCat("password-of-", ufrag, "-0123456789");
}

inline Join JoinWith(absl::string_view ufrag,
                     absl::string_view player = "192.0.2.1:50000") {
  Join join;
  join.network_id = absl::StrCat("player-", ufrag);
  join.ufrag = std::string(ufrag);
  join.password = PasswordOf(ufrag);
  join.player = Address(player);
  join.backend = Address("10.0.0.5:19132");
  join.backend_label = "lobby.internal:19132";
  join.media = Address("10.0.0.5:19133");
  return join;
}

inline absl::Status Add(Join join, JoinTable* table) {
  absl::StatusOr<JoinTable::Reservation> reservation =
      table->Reserve(join.player, join.backend, join.backend_label);
  if (!reservation.ok()) return reservation.status();
  return table->Commit(*std::move(reservation), std::move(join));
}

// The check of a player who knows the answer of that join.
inline std::string CheckOf(absl::string_view ufrag,
                           uint32_t priority = 0x6e0001ff) {
  stun::BindingRequestOptions options;
  options.username = absl::StrCat(ufrag, ":offer");
  options.password = PasswordOf(ufrag);
  options.priority = priority;
  return stun::BuildBindingRequest(options);
}

// The resolution of a client, which must be one of ICE.
inline absl::StatusOr<ResolveResult> ResolveOf(const SocketAddress& client,
                                               const std::string& datagram,
                                               JoinTable* table) {
  absl::optional<absl::StatusOr<ResolveResult>> result =
      table->Resolve(client, datagram);
  if (!result.has_value()) return absl::InternalError("not of a join");
  return *std::move(result);
}

}  // namespace test
}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_JOIN_FIXTURE_H_
