// What Sentinel says: the address of a master is one, or there is none.
#include <string>

#include "absl/strings/string_view.h"
#include "testing/internal/fuzz/rules.h"
#include "udpgate/dns/host_port.h"
#include "udpgate/redis/internal/reply_reader.h"
#include "udpgate/redis/internal/sentinel_reply.h"

namespace udpgate {
namespace test {
namespace {

using redis::internal::ReadMasterAddress;
using redis::internal::ReadSwitchMaster;
using redis::internal::ReplyReader;

void RequireAddressOrNone(const std::string& address) {
  if (address.empty()) return;
  const auto parsed = HostPort::Parse(address);
  Require(parsed.ok() && parsed->ToString() == address,
          "an address is read as it is written");
}

}  // namespace
}  // namespace test
}  // namespace udpgate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace udpgate::test;  // NOLINT
  const absl::string_view text = AsText(data, size);
  RequireAddressOrNone(ReadSwitchMaster(text, "lobby"));
  ReplyReader reader;
  reader.Feed(text).IgnoreError();
  for (;;) {
    const auto reply = reader.Next();
    if (!reply.ok() || *reply == nullptr) return 0;
    RequireAddressOrNone(ReadMasterAddress(**reply));
  }
}
