#include "testing/internal/e2e/nethernet.h"

#include <cstddef>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "testing/internal/support/http_client.h"

namespace udpgate {
namespace test {

std::map<std::string, std::string> SignalingEnvironment(
    const SocketAddress& signaling) {
  return {{"NETHERNET_ADDR", signaling.ToString()},
          {"ADMIN_ADDR", "127.0.0.1:0"}};
}

bool AwaitListening(const SocketAddress& address) {
  return AwaitTrue([&] { return TcpConnect(address).ok(); });
}

int64_t MetricOf(const SocketAddress& admin, absl::string_view sample) {
  const absl::StatusOr<HttpReply> reply = HttpGet(admin, "/metrics");
  EXPECT_TRUE(reply.ok()) << reply.status();
  if (!reply.ok()) return -1;
  const std::string wanted = absl::StrCat("\n", sample, " ");
  const size_t begin = reply->body.find(wanted);
  if (begin == std::string::npos) return 0;
  const size_t value = begin + wanted.size();
  double number = -1;
  EXPECT_TRUE(absl::SimpleAtod(
      reply->body.substr(value, reply->body.find('\n', value) - value),
      &number));
  return static_cast<int64_t>(number);
}

void NetherNetTest::StartSignaling(
    std::map<std::string, std::string> environment) {
  signaling_ = SocketAddress::Ipv4Loopback(FreeTcpPort());
  const auto proxy = environment.find("PROXY_ADDR");
  if (proxy != environment.end()) {
    signaling_ =
        SocketAddress::Parse(proxy->second)->WithPort(signaling_.port());
  }
  environment.merge(SignalingEnvironment(signaling_));
  StartGate(std::move(environment));
  ASSERT_TRUE(AwaitListening(signaling_)) << gate().log();
  ASSERT_TRUE(AwaitTrue([this] { return admin().is_valid(); }));
}

}  // namespace test
}  // namespace udpgate
