#include "udpgate/admin/admin_server.h"

#include <sys/socket.h>

#include <atomic>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/internal/support/http_client.h"
#include "udpgate/admin/admin_fixture.h"
#include "udpgate/admin/admin_options.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/proxy.h"

namespace udpgate {
namespace admin {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::udpgate::test::HttpReply;

TEST_F(AdminServerTest, IsAliveAndReady) {
  Serve();
  EXPECT_EQ(Get("/healthz").status, 200);
  EXPECT_EQ(Get("/readyz").body, "ready\n");
  proxy_->Stop();
  const HttpReply dead = Get("/healthz");
  EXPECT_EQ(dead.status, 503);
  EXPECT_THAT(dead.body,
              HasSubstr("worker stalled: no event-loop iteration in 2s"));
}

TEST_F(AdminServerTest, IsNotReadyIfARequiredComponentFails) {
  std::atomic<bool> works{false};
  hooks_.components = [&works] {
    return std::vector<ComponentHealth>{
        {"redis_backend",
         works ? absl::OkStatus() : absl::UnavailableError("no connection")},
        {"redis_disconnects", absl::UnavailableError("not subscribed"),
         /*is_needed=*/false}};
  };
  Serve();
  const HttpReply reply = Get("/readyz");
  EXPECT_EQ(reply.status, 503);
  EXPECT_EQ(reply.body,
            "redis_backend: no connection\n"
            "warning: redis_disconnects: not subscribed\n");
  EXPECT_EQ(Get("/healthz").status, 200);
  works = true;
  // A component that is not needed is still a warning.
  EXPECT_EQ(Get("/readyz").status, 200);
  EXPECT_EQ(Get("/readyz").body,
            "ready\nwarning: redis_disconnects: not subscribed\n");
  EXPECT_THAT(Get("/api/v1/status").body,
              HasSubstr("[\"warning: redis_disconnects: not subscribed\"]"));
  const std::string text = Get("/metrics").body;
  EXPECT_EQ(Sample(text, "udpgate_component_up{component=\"redis_backend\"}")
                .value_or(""),
            "1");
  EXPECT_EQ(
      Sample(text, "udpgate_component_up{component=\"redis_disconnects\"}")
          .value_or(""),
      "0");
}

TEST_F(AdminServerTest, PortInUseIsAnError) {
  Serve();
  options_.listen_address = address_;
  const absl::Status status =
      AdminServer::Create(options_, proxy_.get(), hooks_).status();
  EXPECT_THAT(status.message(), AllOf(HasSubstr(address_.ToString()),
                                      HasSubstr("Address already in use")));
}

TEST_F(AdminServerTest, InvalidOptionIsAnError) {
  options_.worker_count = 0;
  const absl::Status status =
      AdminServer::Create(options_, proxy_.get(), hooks_).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(status.message(), HasSubstr("worker_count"));
}

TEST_F(AdminServerTest, StopsWhileClientsAreConnected) {
  Serve();
  absl::StatusOr<internal::UniqueFd> idle = test::TcpConnect(address_);
  ASSERT_TRUE(idle.ok());
  ASSERT_EQ(send(idle->get(), "GET /he", 7, MSG_NOSIGNAL), 7);
  EXPECT_EQ(Get("/healthz").status, 200);
  admin_->Stop();
  char byte;
  EXPECT_LE(recv(idle->get(), &byte, 1, 0), 0);
  admin_->Stop();
}

}  // namespace
}  // namespace admin
}  // namespace udpgate
