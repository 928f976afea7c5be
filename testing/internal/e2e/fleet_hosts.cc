#include "testing/internal/e2e/fleet_hosts.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "testing/await.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/support/http_client.h"

namespace udpgate {
namespace test {

void Networks::Add(const std::string& bridge) {
  space_->Command(absl::StrCat("ip link add ", bridge,
                               " type bridge forward_delay 0; ip link set ",
                               bridge, " up"));
}

void Networks::Connect(NetworkNamespace* host, const std::string& interface,
                       const std::string& address, const std::string& bridge,
                       const std::string& port) {
  NetworkNamespace::Connect(*host, interface, *space_, port);
  space_->Command(absl::StrCat("ip link set ", port, " master ", bridge));
  host->Command(absl::StrCat("ip link set lo up; ip addr add ", address,
                             "/24 dev ", interface));
}

void Networks::Cut(const std::string& port) {
  space_->Command(absl::StrCat("ip link set ", port, " down"));
}

void Networks::Mend(const std::string& port) {
  space_->Command(absl::StrCat("ip link set ", port, " up"));
}

void Networks::Isolate(const std::string& port) {
  space_->Command(absl::StrCat("ip link set ", port, " nomaster"));
}

void Networks::Rejoin(const std::string& port, const std::string& bridge) {
  space_->Command(absl::StrCat("ip link set ", port, " master ", bridge));
}

GatewayHost::GatewayHost(std::string name,
                         std::unique_ptr<NetworkNamespace> space)
    : name_(std::move(name)), space_(std::move(space)) {}

bool GatewayHost::StartGateway(std::map<std::string, std::string> environment) {
  environment["GATEWAY_ID"] = name_;
  GateProcessOptions options;
  options.environment = std::move(environment);
  gateway_ = std::make_unique<GateProcess>(GateBinary(), std::move(options));
  absl::Status started;
  space_->Run([&] { started = gateway_->Start(); });
  return started.ok();
}

std::string GatewayHost::log() const {
  return absl::StrCat("== gateway ", name_, "\n",
                      gateway_ == nullptr ? "" : gateway_->log());
}

std::string GatewayHost::Get(const std::string& path) {
  std::string body;
  space_->Run([&] {
    body = HttpGet(*SocketAddress::Parse("127.0.0.1:9132"), path)
               .value_or(HttpReply())
               .body;
  });
  return body;
}

double GatewayHost::Metric(const std::string& name) {
  const std::string text = Get("/metrics");
  const size_t begin = text.find(absl::StrCat("\n", name, " "));
  double value = -1;
  if (begin == std::string::npos) return value;
  const size_t number = begin + name.size() + 2;
  (void)absl::SimpleAtod(text.substr(number, text.find('\n', number) - number),
                         &value);
  return value;
}

bool GatewayHost::AwaitMetric(const std::string& name, double value) {
  return AwaitTrue([&] { return Metric(name) == value; });
}

std::string GatewayHost::RecordChanges() {
  std::string lines;
  const std::string text = Get("/metrics");
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::StartsWith(line, "udpgate_store_records_total{")) {
      absl::StrAppend(&lines, line, "\n");
    }
  }
  return lines;
}

RedisHost::RedisHost(NetworkNamespace* space, std::string address)
    : space_(space), address_(std::move(address)) {}

bool RedisHost::Start() {
  ChildProcessOptions options;
  options.arguments = {"redis-server",
                       "--bind",
                       address_,
                       "--port",
                       "6379",
                       "--save",
                       "",
                       "--dir",
                       directory_.path(),
                       "--protected-mode",
                       "no"};
  options.environment = {{"LC_ALL", "C"}};
  space_->Run([&] {
    auto started = ChildProcess::Start(options);
    if (started.ok()) process_ = *std::move(started);
  });
  return process_ != nullptr &&
         process_->AwaitOutput("eady to accept connections");
}

std::string RedisHost::Ask(const std::string& command) {
  return std::string(absl::StripAsciiWhitespace(
      space_->Output(absl::StrCat("redis-cli -h ", address_, " ", command))));
}

int RedisHost::RecordCount(const std::string& gateway) {
  int count = -1;
  (void)absl::SimpleAtoi(
      Ask(absl::StrCat("SCARD udp_gate:session:@index:", gateway)), &count);
  return count;
}

}  // namespace test
}  // namespace udpgate
