// The messages of a takeover: whatever another process sends is read or
// refused.
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"
#include "testing/internal/fuzz/rules.h"
#include "udpgate/internal/session/handover.h"
#include "udpgate/takeover/internal/gate_reader.h"
#include "udpgate/takeover/internal/messages.h"

namespace udpgate {
namespace test {
namespace {

using takeover::internal::Decode;
using takeover::internal::Encode;
using takeover::internal::GateReader;
using takeover::internal::Incoming;

void Try(absl::Span<const uint8_t> bytes) {
  const absl::StatusOr<nlohmann::json> message = Decode(bytes);
  if (!message.ok()) {
    Require(absl::IsInvalidArgument(message.status()) ||
                absl::IsAborted(message.status()),
            "a bad message is InvalidArgument, an error that it reports is "
            "Aborted");
    return;
  }
  const absl::StatusOr<nlohmann::json> again = Decode(Encode(*message));
  Require(again.ok(), "a message is written to what can be read");

  GateReader reader;
  reader.BeginState();
  Incoming incoming;
  incoming.type = (*message)["type"].get<std::string>();
  incoming.fields = *message;
  // They come in a record of their own; one input has both.
  if (const auto rows = message->find("rows");
      rows != message->end() && rows->is_binary()) {
    incoming.rows = rows->get_binary();
  }
  const absl::Status status = reader.Read(std::move(incoming));
  Require(status.ok() || absl::IsInvalidArgument(status),
          "a message that is wrong is InvalidArgument");
  const absl::StatusOr<udpgate::internal::HandedGate> gate = reader.Take();
  if (!gate.ok()) return;
  for (const auto& session : gate->sessions) {
    Require(session.id != 0, "a session has an id");
    Require(session.state == SessionState::kPending,
            "a session without a socket is pending");
  }
}

}  // namespace
}  // namespace test
}  // namespace udpgate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  udpgate::test::Try({data, size});
  return 0;
}
