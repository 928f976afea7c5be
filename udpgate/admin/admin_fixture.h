// What the tests of AdminServer share.
#ifndef UDPGATE_ADMIN_ADMIN_FIXTURE_H_
#define UDPGATE_ADMIN_ADMIN_FIXTURE_H_

#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "testing/await.h"
#include "testing/echo_backend.h"
#include "testing/internal/support/http_client.h"
#include "testing/loopback_peer.h"
#include "udpgate/admin/admin_options.h"
#include "udpgate/admin/admin_server.h"
#include "udpgate/admin/session_history.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/proxy.h"
#include "udpgate/proxy_options.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace admin {

// Returns the value of a sample in the text of /metrics. `name` includes the
// labels.
inline absl::StatusOr<std::string> Sample(const std::string& text,
                                          const std::string& name) {
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::StartsWith(line, name + " ")) {
      return std::string(line.substr(name.size() + 1));
    }
  }
  return absl::NotFoundError(name);
}

// Parses the body; returns an empty object if it is not a JSON object.
inline nlohmann::json Json(const test::HttpReply& reply) {
  EXPECT_THAT(reply.head,
              ::testing::HasSubstr("Content-Type: application/json"));
  const nlohmann::json value =
      nlohmann::json::parse(reply.body, nullptr, false);
  EXPECT_FALSE(value.is_discarded()) << reply.body;
  return value.is_object() ? value : nlohmann::json::object();
}

// Resolves to one backend, with a label and a tag that the test sets for the
// clients that follow.
class LabelResolver final : public BackendResolver {
 public:
  explicit LabelResolver(const SocketAddress& backend)
      : result_{backend, backend.ToString()} {}
  void Resolve(const ResolveRequest&, Callback done) override {
    ResolveResult result;
    {
      udpgate::internal::MutexLock lock(&mutex_);
      result = result_;
    }
    done(std::move(result));
  }

  void SetLabel(std::string label) {
    udpgate::internal::MutexLock lock(&mutex_);
    result_.label = std::move(label);
  }
  void SetTag(std::shared_ptr<SessionTag> tag) {
    udpgate::internal::MutexLock lock(&mutex_);
    result_.tag = std::move(tag);
  }

 private:
  udpgate::internal::Mutex mutex_;
  ResolveResult result_ ABSL_GUARDED_BY(mutex_);
};

// An admin server of a proxy on the loopback interface.
class AdminServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ProxyOptions options;
    options.listen_address = SocketAddress::Ipv4Loopback(0);
    options.worker_count = 2;
    ProxyDependencies dependencies;
    dependencies.resolver = resolver_;
    dependencies.session_observer = history_;
    absl::StatusOr<std::unique_ptr<Proxy>> proxy =
        Proxy::Create(options, std::move(dependencies));
    ASSERT_TRUE(proxy.ok()) << proxy.status();
    proxy_ = *std::move(proxy);
    ASSERT_TRUE(proxy_->Start().ok());
    options_.listen_address = SocketAddress::Ipv4Loopback(0);
    options_.backends_age_max = absl::ZeroDuration();
    hooks_.history = history_;
  }

  void Serve() {
    absl::StatusOr<std::unique_ptr<AdminServer>> admin =
        AdminServer::Create(options_, proxy_.get(), hooks_);
    ASSERT_TRUE(admin.ok()) << admin.status();
    admin_ = *std::move(admin);
    ASSERT_TRUE(admin_->Start().ok());
    // Not the server's own address, which may be the unspecified one.
    address_ = SocketAddress::Ipv4Loopback(admin_->address().port());
  }

  test::HttpReply Get(const std::string& path,
                      const std::string& headers = "") {
    return Reply(test::HttpGet(address_, path, headers));
  }
  test::HttpReply Post(const std::string& path, const std::string& body,
                       const std::string& headers = "") {
    return Reply(test::HttpPost(address_, path, body, headers));
  }
  test::HttpReply Send(const std::string& text) {
    return Reply(test::HttpExchange(address_, text));
  }
  test::HttpReply Reply(absl::StatusOr<test::HttpReply> reply) {
    EXPECT_TRUE(reply.ok()) << reply.status();
    return reply.ok() ? *reply : test::HttpReply();
  }

  // Ends the client's session and waits until the history has it.
  void End(const test::LoopbackPeer& client) {
    const auto count = [this] {
      size_t ends = 0;
      history_->ForEachEnd([&ends](const SessionHistory::End&) {
        ++ends;
        return true;
      });
      return ends;
    };
    const size_t before = count();
    proxy_->Disconnect(DisconnectTarget::ForClient(client.address()));
    EXPECT_TRUE(test::AwaitTrue([&] { return count() == before + 1; }));
  }

  // Sends a datagram and receives its echo.
  void Play(test::LoopbackPeer* client) {
    EXPECT_TRUE(client->Ask(proxy_->listen_addresses()[0], "hello").ok());
  }

  test::EchoBackend backend_;
  std::shared_ptr<LabelResolver> resolver_ =
      std::make_shared<LabelResolver>(backend_.address());
  std::shared_ptr<SessionHistory> history_ =
      std::make_shared<SessionHistory>(SessionHistoryOptions());
  std::unique_ptr<Proxy> proxy_;
  AdminOptions options_;
  AdminHooks hooks_;
  SocketAddress address_;
  std::unique_ptr<AdminServer> admin_;
};

}  // namespace admin
}  // namespace udpgate

#endif  // UDPGATE_ADMIN_ADMIN_FIXTURE_H_
