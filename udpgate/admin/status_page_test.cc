// The page at `/`, in a real browser.
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "testing/await.h"
#include "testing/echo_backend.h"
#include "testing/internal/support/child_process.h"
#include "testing/internal/support/http_client.h"
#include "testing/internal/support/temporary_directory.h"
#include "testing/loopback_peer.h"
#include "udpgate/admin/admin_server.h"
#include "udpgate/admin/session_history.h"
#include "udpgate/proxy.h"
#include "udpgate/static_backend_resolver.h"

namespace udpgate {
namespace admin {
namespace {

using ::nlohmann::json;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

// What the shell that starts the browser returns where there is none.
constexpr int kNoBrowser = 99;
constexpr int kDriverAttempts = 5;

// A browser that a test drives, by the WebDriver protocol
// (https://www.w3.org/TR/webdriver2/) of Debian's chromium-driver.
class Browser {
 public:
  // NotFound where the driver is not installed.
  absl::Status Start() {
    // It takes a free port of one family and wants the same of the other, which
    // another test may have.
    absl::Status status;
    for (int attempt = 0; attempt < kDriverAttempts; ++attempt) {
      status = StartDriver();
      if (!absl::IsUnavailable(status)) break;
    }
    if (!status.ok()) return status;
    json capabilities;
    capabilities["goog:chromeOptions"]["args"] = {
        "--headless", "--no-sandbox", "--disable-gpu",
        "--disable-dev-shm-usage",
        absl::StrCat("--user-data-dir=", directory_.path())};
    json body;
    body["capabilities"]["alwaysMatch"] = capabilities;
    const json session = Post("/session", body);
    if (!session.contains("sessionId")) {
      return absl::InternalError(session.dump());
    }
    path_ = "/session/" + session["sessionId"].get<std::string>();
    return absl::OkStatus();
  }
  // Ends the browser; the driver ends with its object.
  ~Browser() {
    if (path_.empty()) return;
    (void)test::HttpExchange(
        address_, absl::StrCat("DELETE ", path_,
                               " HTTP/1.1\r\nHost: ", address_.ToString(),
                               "\r\nConnection: close\r\n\r\n"));
  }

  void Open(const std::string& url) { Post(path_ + "/url", {{"url", url}}); }
  // What a function of this body returns.
  json Evaluate(const std::string& script) {
    return Post(path_ + "/execute/sync",
                {{"script", script}, {"args", json::array()}});
  }
  // A command of Chrome's own protocol.
  void Command(const std::string& command, const json& parameters) {
    Post(path_ + "/goog/cdp/execute",
         {{"cmd", command}, {"params", parameters}});
  }

 private:
  // Unavailable where it found no port.
  absl::Status StartDriver() {
    test::ChildProcessOptions options;
    options.arguments = {"chromedriver", "--port=0"};
    options.environment = {{"PATH", "/usr/local/bin:/usr/bin:/bin"},
                           {"HOME", directory_.path()}};
    absl::StatusOr<std::unique_ptr<test::ChildProcess>> driver =
        test::ChildProcess::Start(options);
    if (!driver.ok()) return absl::NotFoundError(driver.status().message());
    driver_ = *std::move(driver);
    const std::string before = "started successfully on port ";
    if (!driver_->AwaitOutput(before) || !driver_->AwaitOutput(".\n")) {
      const std::string output = driver_->output();
      return absl::StrContains(output, "port not available")
                 ? absl::UnavailableError(output)
                 : absl::InternalError(output);
    }
    const std::string text = driver_->output();
    int port = 0;
    for (size_t i = text.find(before) + before.size();
         i < text.size() && absl::ascii_isdigit(text[i]); ++i) {
      port = port * 10 + (text[i] - '0');
    }
    address_ = SocketAddress::Ipv4Loopback(static_cast<uint16_t>(port));
    return absl::OkStatus();
  }

  json Post(const std::string& path, const json& body) {
    const absl::StatusOr<test::HttpReply> reply =
        test::HttpPost(address_, path, body.dump(), "Connection: close\r\n");
    EXPECT_TRUE(reply.ok()) << reply.status();
    if (!reply.ok()) return json();
    EXPECT_EQ(reply->status, 200) << reply->body;
    const json answer = json::parse(reply->body, nullptr, false);
    if (!answer.is_object() || !answer.contains("value")) return json();
    return answer["value"];
  }

  test::TemporaryDirectory directory_;
  std::unique_ptr<test::ChildProcess> driver_;
  SocketAddress address_;
  std::string path_;  // of the session
};

class StatusPageTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ProxyOptions options;
    // A browser on a busy machine takes its time.
    options.limits.unconfirmed_timeout = absl::Minutes(10);
    options.limits.session_idle_timeout = absl::Minutes(10);
    options.listen_address = SocketAddress::Ipv4Loopback(0);
    ProxyDependencies dependencies;
    dependencies.resolver =
        std::make_shared<StaticBackendResolver>(backend_.address());
    dependencies.session_observer = history_;
    absl::StatusOr<std::unique_ptr<Proxy>> proxy =
        Proxy::Create(options, std::move(dependencies));
    ASSERT_TRUE(proxy.ok()) << proxy.status();
    proxy_ = *std::move(proxy);
    ASSERT_TRUE(proxy_->Start().ok());
    options_.listen_address = SocketAddress::Ipv4Loopback(0);
    hooks_.history = history_;
  }

  // A session that has come and gone.
  void PlayAndLeave(test::LoopbackPeer* client) {
    ASSERT_TRUE(client->Ask(proxy_->listen_addresses()[0], "hello").ok());
    proxy_->Disconnect(DisconnectTarget::ForClient(client->address()));
    const auto is_known = [this] {
      bool is_there = false;
      history_->ForEachEnd([&is_there](const SessionHistory::End&) {
        is_there = true;
        return false;
      });
      return is_there;
    };
    ASSERT_TRUE(test::AwaitTrue(is_known));
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

  // Starts the browser and opens the page. Ends the test where there is none.
  void Open(Browser* browser) {
    const absl::Status status = browser->Start();
    if (absl::IsNotFound(status)) {
      const char* ci = std::getenv("CI");
      if (ci != nullptr && *ci != '\0') FAIL() << status;
      GTEST_SKIP() << status;
    }
    ASSERT_TRUE(status.ok()) << status;
    browser->Open(absl::StrCat("http://", admin_->address().ToString(), "/"));
  }

  test::EchoBackend backend_;
  std::shared_ptr<SessionHistory> history_ =
      std::make_shared<SessionHistory>(SessionHistoryOptions());
  std::unique_ptr<Proxy> proxy_;
  AdminOptions options_;
  AdminHooks hooks_;
  std::unique_ptr<AdminServer> admin_;
};

TEST_F(StatusPageTest, ShowsTheGateway) {
  hooks_.components = [] {
    return std::vector<ComponentHealth>{{"backend_source", absl::OkStatus()}};
  };
  Serve();
  test::LoopbackPeer client, gone;
  ASSERT_TRUE(client.Ask(proxy_->listen_addresses()[0], "hello").ok());
  PlayAndLeave(&gone);
  std::string document;
  Browse(&document);
  if (IsSkipped() || HasFatalFailure()) return;
  EXPECT_THAT(document, ContainsRegex("data-polls=\"[2-9]\""));
  EXPECT_THAT(document, HasSubstr(" role=\"status\">ready</span>"));
  EXPECT_THAT(document,
              HasSubstr(absl::StrCat("<td>", backend_.address().ToString(),
                                     "</td><td>1</td><td>1</td><td>1</td>")));
  EXPECT_THAT(document, HasSubstr("<td>backend source</td><td>ok</td>"));
  EXPECT_THAT(document, ContainsRegex(absl::StrCat(
                            "<td>[0-9:]{8}</td><td>", gone.address().ToString(),
                            "</td><td>", backend_.address().ToString(),
                            "</td><td>disconnected</td><td>[0-9.]+ s</td>"
                            "<td>1</td><td>1</td>")));
  EXPECT_THAT(document, HasSubstr(proxy_->listen_addresses()[0].ToString()));
  // Each plot has a curve of some points.
  EXPECT_THAT(document, ContainsRegex("aria-label=\"Sessions, now 1\""));
  EXPECT_THAT(document,
              ContainsRegex("class=\"curve\" d=\"M[0-9. ]+L[0-9. ]+"));
  EXPECT_THAT(document, ContainsRegex("aria-label=\"Drops/s, now 0\""));
  EXPECT_THAT(document, ContainsRegex("id=\"problem\"[^>]* hidden"));
  EXPECT_THAT(document, ContainsRegex("id=\"login\"[^>]* hidden"));
  EXPECT_THAT(document, ContainsRegex("id=\"joining\"[^>]* hidden"));
  EXPECT_THAT(document, ContainsRegex("id=\"storing\"[^>]* hidden"));
}

TEST_F(StatusPageTest, ShowsJoinsIfThereAreAny) {
  hooks_.joins = [] {
    std::vector<ListedJoin> joins(12);
    joins[0] = {"1234567890",
                "203.0.113.7",
                "10.0.0.5:19132",
                "",
                "10.0.0.5:19133",
                "waiting",
                0,
                absl::Seconds(61),
                true};
    return joins;
  };
  Serve();
  std::string document;
  Browse(&document);
  if (IsSkipped() || HasFatalFailure()) return;
  EXPECT_THAT(document, Not(ContainsRegex("id=\"joining\"[^>]* hidden")));
  EXPECT_THAT(document, HasSubstr("the oldest of 12"));
  EXPECT_THAT(document,
              HasSubstr("<td>1234567890</td><td>203.0.113.7</td>"
                        "<td>10.0.0.5:19132</td>"
                        "<td>waiting, of another gateway</td><td>0</td>"
                        "<td>1 min 1 s</td>"));
}

TEST_F(StatusPageTest, ShowsTheSessionStoreIfThereIsOne) {
  hooks_.session_store = [] {
    return std::vector<std::pair<std::string, double>>{{"own_records", 12}};
  };
  Serve();
  std::string document;
  Browse(&document);
  if (IsSkipped() || HasFatalFailure()) return;
  EXPECT_THAT(document, Not(ContainsRegex("id=\"storing\"[^>]* hidden")));
  EXPECT_THAT(document, HasSubstr("<td>own records</td><td>12</td>"));
}

TEST_F(StatusPageTest, ShowsWhyTheGatewayIsNotReady) {
  hooks_.components = [] {
    return std::vector<ComponentHealth>{
        {"backend_source", absl::UnavailableError("<img src=x> away")}};
  };
  hooks_.history = nullptr;
  Serve();
  std::string document;
  Browse(&document);
  if (IsSkipped() || HasFatalFailure()) return;
  EXPECT_THAT(document, ContainsRegex("id=\"recent\"><tr><td[^>]*>none</td>"));
  EXPECT_THAT(document, HasSubstr("role=\"status\">not ready: backend_source: "
                                  "&lt;img src=x&gt; away</span>"));
  EXPECT_THAT(document, Not(HasSubstr("<img")));
  EXPECT_THAT(document, HasSubstr("no live sessions"));
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

TEST_F(StatusPageTest, ShowsTheGatewayAfterSignIn) {
  options_.token = "a-token-of-a-test";
  Serve();
  Browser browser;
  Open(&browser);
  if (IsSkipped() || HasFatalFailure()) return;
  const auto give = [&browser](const std::string& token) {
    browser.Evaluate(absl::StrCat("document.getElementById('token').value = '",
                                  token,
                                  "'; document.querySelector('#login button')"
                                  ".click();"));
  };
  const auto shows = [&browser](const std::string& condition) {
    return test::AwaitTrue(
        [&] { return browser.Evaluate("return " + condition) == json(true); });
  };
  EXPECT_TRUE(shows("!document.getElementById('login').hidden"));
  give("a-wrong-token-of-a-test");
  EXPECT_TRUE(
      shows("document.getElementById('problem').textContent === "
            "'invalid token'"));
  give(options_.token);
  EXPECT_TRUE(
      shows("document.getElementById('ready').textContent === 'ready'"));
  EXPECT_TRUE(shows("document.getElementById('login').hidden"));
  EXPECT_TRUE(shows("document.getElementById('problem').hidden"));
}

TEST_F(StatusPageTest, FitsAPhoneAndHasTwoColorSchemes) {
  Serve();
  test::LoopbackPeer client, gone;
  ASSERT_TRUE(client.Ask(proxy_->listen_addresses()[0], "hello").ok());
  PlayAndLeave(&gone);
  Browser browser;
  Open(&browser);
  if (IsSkipped() || HasFatalFailure()) return;
  EXPECT_TRUE(test::AwaitTrue([&browser] {
    return browser.Evaluate("return 'polls' in document.body.dataset") ==
           json(true);
  }));
  json phone;
  phone["width"] = 320;
  phone["height"] = 640;
  phone["deviceScaleFactor"] = 2;
  phone["mobile"] = true;
  browser.Command("Emulation.setDeviceMetricsOverride", phone);
  EXPECT_EQ(browser.Evaluate("return innerWidth"), json(320));
  EXPECT_EQ(browser.Evaluate("return document.documentElement.scrollWidth"),
            json(320));
  // The widest table scrolls by itself.
  EXPECT_EQ(browser.Evaluate("return document.getElementById('recent')"
                             ".rows.length"),
            json(2));
  // How light a colour of the page is, from 0 to 765.
  const auto lightness = [&browser](const std::string& scheme,
                                    const std::string& property) {
    json feature;
    feature["name"] = "prefers-color-scheme";
    feature["value"] = scheme;
    json media;
    media["features"] = json::array({feature});
    browser.Command("Emulation.setEmulatedMedia", media);
    const json value = browser.Evaluate(
        "return getComputedStyle(document.body)." + property +
        ".match(/[0-9]+/g).slice(0, 3).map(Number).reduce((a, b) => a + b)");
    return value.is_number() ? value.get<int>() : -1;
  };
  EXPECT_GT(lightness("light", "backgroundColor"), 600);
  EXPECT_LT(lightness("light", "color"), 200);
  EXPECT_LT(lightness("dark", "backgroundColor"), 200);
  EXPECT_GT(lightness("dark", "color"), 600);
}

TEST_F(StatusPageTest, LoadsNothingFromOtherHosts) {
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
