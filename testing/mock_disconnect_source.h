// A mock of `DisconnectSource`, and actions for its `Start`.
//
//   DisconnectSource::Handler handler;
//   auto disconnects = std::make_shared<MockDisconnectSource>();
//   EXPECT_CALL(*disconnects, Start).WillOnce(CaptureHandlerIn(&handler));
//   EXPECT_CALL(*disconnects, Stop).Times(::testing::AtLeast(1));
//   ...                                       // Proxy::Create and Start
//   handler(DisconnectTarget::ForClient(client));  // an event arrives
//
// examples/unit_test.cc is a whole test that is written with these.
#ifndef UDPGATE_TESTING_MOCK_DISCONNECT_SOURCE_H_
#define UDPGATE_TESTING_MOCK_DISCONNECT_SOURCE_H_

#include <utility>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "udpgate/base/export.h"
#include "udpgate/disconnect_source.h"

namespace udpgate {
namespace test {

// Without an expectation `Start` is OK and no event ever comes; `Health` is OK.
// `Start` and `Stop` are called on the thread that calls them on the Proxy.
class UDPGATE_EXPORT MockDisconnectSource : public DisconnectSource {
 public:
  MOCK_METHOD(absl::Status, Start, (Handler handler), (override));
  MOCK_METHOD(void, Stop, (), (override));
  MOCK_METHOD(absl::Status, Health, (), (const, override));
};

// Starts, and keeps the handler in `*handler` for the test to call. Call it
// from one thread at a time, and not after the Proxy has called `Stop`, as a
// real source would not.
inline auto CaptureHandlerIn(DisconnectSource::Handler* handler) {
  return [handler](DisconnectSource::Handler given) {
    *handler = std::move(given);
    return absl::OkStatus();
  };
}

// Refuses to start with this error, which must not be OK.
inline auto FailToStart(absl::Status status) {
  return [status = std::move(status)](
             const DisconnectSource::Handler& /*handler*/) { return status; };
}

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_MOCK_DISCONNECT_SOURCE_H_
