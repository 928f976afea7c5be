// The page at `/`, in a real browser.
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/child_process.h"
#include "testing/echo_backend.h"
#include "testing/http_client.h"
#include "testing/loopback_peer.h"
#include "testing/temporary_directory.h"
#include "udpgate/admin/admin_server.h"
#include "udpgate/proxy.h"
#include "udpgate/static_backend_resolver.h"

namespace udpgate {
namespace admin {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

// Statuses that only these tests give to the shell that starts the browser.
constexpr int kNoBrowser = 99;

class StatusPageTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ProxyOptions options;
    options.listen_address = SocketAddress::Ipv4Loopback(0);
    absl::StatusOr<std::unique_ptr<Proxy>> proxy = Proxy::Create(
        options, {std::make_shared<StaticBackendResolver>(backend_.address())});
    ASSERT_TRUE(proxy.ok()) << proxy.status();
    proxy_ = *std::move(proxy);
    ASSERT_TRUE(proxy_->Start().ok());
    options_.listen_address = SocketAddress::Ipv4Loopback(0);
  }

  void Serve() {
    absl::StatusOr<std::unique_ptr<AdminServer>> admin =
        AdminServer::Create(options_, proxy_.get(), hooks_);
    ASSERT_TRUE(admin.ok()) << admin.status();
    admin_ = *std::move(admin);
    ASSERT_TRUE(admin_->Start().ok());
  }

  // The document after some polls of the page, as the browser holds it. Its
  // clock is a virtual one: it waits for answers, and skips what is idle.
  // Ends the test where there is no browser.
  void Browse(std::string* document) {
    test::TemporaryDirectory directory;
    test::ChildProcessOptions options;
    options.arguments = {
        "sh", "-c",
        absl::StrCat("command -v chromium > /dev/null || exit ", kNoBrowser,
                     "; exec chromium --headless --no-sandbox --disable-gpu "
                     "--disable-dev-shm-usage --user-data-dir=",
                     directory.path(),
                     " --virtual-time-budget=9000 --dump-dom http://",
                     admin_->address().ToString(), "/ 2> /dev/null")};
    options.environment = {{"PATH", "/usr/local/bin:/usr/bin:/bin"},
                           {"HOME", directory.path()}};
    absl::StatusOr<std::unique_ptr<test::ChildProcess>> browser =
        test::ChildProcess::Start(options);
    ASSERT_TRUE(browser.ok()) << browser.status();
    const absl::StatusOr<test::ExitResult> result =
        (*browser)->AwaitExit(absl::Minutes(1));
    ASSERT_TRUE(result.ok()) << result.status();
    if (result->status == kNoBrowser) {
      const char* ci = std::getenv("CI");
      if (ci != nullptr && *ci != '\0') FAIL() << "chromium is not installed";
      GTEST_SKIP() << "chromium is not installed";
    }
    ASSERT_EQ(result->status, 0);
    *document = (*browser)->output();
  }

  test::EchoBackend backend_;
  std::unique_ptr<Proxy> proxy_;
  AdminOptions options_;
  AdminHooks hooks_;
  std::unique_ptr<AdminServer> admin_;
};

TEST_F(StatusPageTest, ShowsTheGate) {
  hooks_.components = [] {
    return std::vector<ComponentHealth>{{"backend_source", absl::OkStatus()}};
  };
  Serve();
  test::LoopbackPeer client;
  ASSERT_TRUE(client.Ask(proxy_->listen_addresses()[0], "hello").ok());
  std::string document;
  Browse(&document);
  if (IsSkipped() || HasFatalFailure()) return;
  EXPECT_THAT(document, ContainsRegex("data-polls=\"[2-9]\""));
  EXPECT_THAT(document, HasSubstr(" role=\"status\">ready</span>"));
  EXPECT_THAT(document,
              HasSubstr(absl::StrCat("<td>", backend_.address().ToString(),
                                     "</td><td>1</td><td>1</td><td>1</td>")));
  EXPECT_THAT(document, HasSubstr("<td>backend source</td><td>ok</td>"));
  EXPECT_THAT(document, HasSubstr(proxy_->listen_addresses()[0].ToString()));
  // Each plot has a curve of some points.
  EXPECT_THAT(document, ContainsRegex("aria-label=\"Sessions, now 1\""));
  EXPECT_THAT(document,
              ContainsRegex("class=\"curve\" d=\"M[0-9. ]+L[0-9. ]+"));
  EXPECT_THAT(document, ContainsRegex("aria-label=\"Drops/s, now 0\""));
  EXPECT_THAT(document, ContainsRegex("id=\"problem\"[^>]* hidden"));
  EXPECT_THAT(document, ContainsRegex("id=\"login\"[^>]* hidden"));
}

TEST_F(StatusPageTest, ShowsWhyTheGateIsNotReady) {
  hooks_.components = [] {
    return std::vector<ComponentHealth>{
        {"backend_source", absl::UnavailableError("<img src=x> away")}};
  };
  Serve();
  std::string document;
  Browse(&document);
  if (IsSkipped() || HasFatalFailure()) return;
  EXPECT_THAT(document, HasSubstr("role=\"status\">not ready: backend_source: "
                                  "&lt;img src=x&gt; away</span>"));
  EXPECT_THAT(document, Not(HasSubstr("<img")));
  EXPECT_THAT(document, HasSubstr("no session has a backend"));
}

TEST_F(StatusPageTest, AsksForTheToken) {
  options_.token = "a-token-of-a-test";
  Serve();
  std::string document;
  Browse(&document);
  if (IsSkipped() || HasFatalFailure()) return;
  EXPECT_THAT(document, Not(ContainsRegex("id=\"login\"[^>]* hidden")));
  EXPECT_THAT(document, Not(HasSubstr("data-polls=")));
}

TEST_F(StatusPageTest, TakesNothingFromOutside) {
  Serve();
  const absl::StatusOr<test::HttpReply> reply =
      test::HttpGet(admin_->address(), "/");
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->status, 200);
  EXPECT_THAT(reply->head, HasSubstr("Content-Type: text/html"));
  EXPECT_THAT(reply->head,
              HasSubstr("Content-Security-Policy: default-src 'none'"));
  // The name of SVG is no address.
  const std::string body =
      absl::StrReplaceAll(reply->body, {{"'http://www.w3.org/2000/svg'", ""}});
  for (const char* outside :
       {"http:", "https:", "src=", "url(", "@import", "//cdn", "innerHTML"}) {
    EXPECT_THAT(body, Not(HasSubstr(outside)));
  }
  EXPECT_THAT(body, HasSubstr("prefers-color-scheme: dark"));
  EXPECT_THAT(body, HasSubstr("name=\"viewport\""));
}

}  // namespace
}  // namespace admin
}  // namespace udpgate
