// What the Redis key and BACKEND_ADDR hold. Host names are parsed and not
// looked up.
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/time/time.h"
#include "testing/internal/fuzz/rules.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/dns/backend_text.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/dns/host_port.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {
namespace {

HostLookup* Lookup() {
  // Never destroyed, so that its thread outlives all inputs.
  static const auto* const lookup =
      new absl::StatusOr<std::shared_ptr<HostLookup>>(HostLookup::Create({}));
  Require(lookup->ok(), "a HostLookup can be made");
  return lookup->value().get();
}

// The answer for a text that needs no look-up, which comes inline.
absl::StatusOr<ResolveResult> Resolve(absl::string_view text) {
  int answers = 0;
  absl::StatusOr<ResolveResult> answer;
  ResolveBackendText(text, absl::Seconds(1), Lookup(),
                     [&](absl::StatusOr<ResolveResult> result) {
                       ++answers;
                       answer = std::move(result);
                     });
  Require(answers == 1, "an answer that is at hand comes once and inline");
  return answer;
}

void RequireRoundTrip(const HostPort& backend) {
  Require(backend.port != 0 && !backend.host.empty(),
          "a backend has a host and a port");
  const absl::StatusOr<HostPort> again = HostPort::Parse(backend.ToString());
  Require(
      again.ok() && again->host == backend.host && again->port == backend.port,
      "a backend prints to what parses to the same");
}

void RequireIsSentThere(absl::string_view text, const SocketAddress& address) {
  const absl::StatusOr<ResolveResult> result = Resolve(text);
  const bool has_host = !address.is_any() && !address.is_multicast() &&
                        address.IpToString() != "255.255.255.255";
  Require(result.ok() == has_host, "a backend is the address of one host");
  if (!result.ok()) {
    Require(absl::IsInvalidArgument(result.status()),
            "the address of no host is InvalidArgument");
    return;
  }
  Require(result->backend == address, "a backend is the address as written");
  Require(result->label == absl::StripAsciiWhitespace(text),
          "the label is what the operator wrote");
}

void Try(absl::string_view text) {
  const absl::StatusOr<HostPort> backend = HostPort::Parse(text);
  if (!backend.ok()) {
    RequireOneShortLine(backend.status());
    Require(Resolve(text).status() == backend.status(),
            "a bad backend is answered with what is wrong with it");
    return;
  }
  RequireRoundTrip(*backend);
  const absl::StatusOr<SocketAddress> address =
      SocketAddress::FromIpAndPort(backend->host, backend->port);
  if (address.ok()) {
    RequireIsSentThere(text, *address);
  } else {
    Require(ValidateHostName(backend->host).ok(),
            "what is no IP address is a host name");
    Require(!absl::StrContains(backend->host, ':'), "a host name has no colon");
  }
}

}  // namespace
}  // namespace test
}  // namespace udpgate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  udpgate::test::Try(udpgate::test::AsText(data, size));
  return 0;
}
