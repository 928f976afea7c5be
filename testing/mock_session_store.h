// A mock of `SessionStore`, and an action for its calls.
//
//   auto store = std::make_shared<::testing::NiceMock<MockSessionStore>>();
//   SessionStore::Done<std::vector<SessionStore::Outcome>> written;
//   EXPECT_CALL(*store, Write)
//       .WillOnce([&](auto, auto, auto done) { written = std::move(done); });
//   ...
//   written(absl::UnavailableError("no store"));
//
// For tests of what a gateway does with its sessions use `FakeSessionStore`.
#ifndef UDPGATE_TESTING_MOCK_SESSION_STORE_H_
#define UDPGATE_TESTING_MOCK_SESSION_STORE_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "gmock/gmock.h"
#include "udpgate/base/export.h"
#include "udpgate/session_store.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {

// Without an expectation a call destroys `done` uncalled, as a store does that
// stops; `Start` and `Health` are OK. Calls come from the keeper's thread.
class UDPGATE_EXPORT MockSessionStore : public SessionStore {
 public:
  using Outcomes = std::vector<Outcome>;
  using FoundList = std::vector<Found>;
  using Sessions = std::vector<StoredSession>;
  using Clients = std::vector<SocketAddress>;
  using Gateways = std::vector<Gateway>;
  using Lease = absl::optional<GatewayLease>;

  MOCK_METHOD(absl::Status, Start, (), (override));
  MOCK_METHOD(void, Stop, (), (override));
  MOCK_METHOD(absl::Status, Health, (), (const, override));
  MOCK_METHOD(void, Write,
              (std::vector<StoredSession> sessions, absl::Duration lifetime,
               Done<Outcomes> done),
              (override));
  MOCK_METHOD(void, Refresh,
              (std::vector<SessionKey> keys, absl::Duration lifetime,
               Done<Outcomes> done),
              (override));
  MOCK_METHOD(void, Remove, (std::vector<SessionKey> keys, Done<Outcomes> done),
              (override));
  MOCK_METHOD(void, Adopt,
              (std::vector<Adoption> adoptions, absl::Duration lifetime,
               Done<Outcomes> done),
              (override));
  MOCK_METHOD(void, Find,
              (std::vector<SocketAddress> clients, Done<FoundList> done),
              (override));
  MOCK_METHOD(void, List, (const std::string& gateway_id, Done<Sessions> done),
              (override));
  MOCK_METHOD(void, ListClients,
              (const std::string& gateway_id, Done<Clients> done), (override));
  MOCK_METHOD(void, RenewLease,
              (GatewayLease lease, absl::Duration lifetime, Done<Lease> done),
              (override));
  MOCK_METHOD(void, EndLease, (const GatewayLease& lease, Done<Outcome> done),
              (override));
  MOCK_METHOD(void, ListGateways, (Done<Gateways> done), (override));
};

// Fails at once. The status must not be OK.
//
//   ON_CALL(*store, Find).WillByDefault(FailWith(absl::UnavailableError("")));
inline auto FailWith(absl::Status status) {
  return [status = std::move(status)](auto&&... arguments) {
    // `done` is the last one.
    auto& done =
        std::get<sizeof...(arguments) - 1>(std::forward_as_tuple(arguments...));
    done(absl::Status(status.code(), status.message()));
  };
}

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_MOCK_SESSION_STORE_H_
