// Against a real redis-server, and against a peer that says what no healthy
// Redis says.
#include "udpgate/redis/redis_backend_resolver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "testing/await.h"
#include "testing/redis_server.h"
#include "testing/simulated_clock.h"
#include "testing/tcp_relay.h"
#include "testing/threads.h"
#include "udpgate/dns/fake_dns_server.h"
#include "udpgate/internal/mutex.h"
#include "udpgate/internal/unique_fd.h"
#include "udpgate/redis/internal/log_collector.h"
#include "udpgate/redis/internal/scripted_peer.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace {

using test::AwaitTrue;
using test::RedisServer;
using test::RedisServerOptions;
using test::ScriptedPeer;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kKey[] = "udp_gate:backend";
// Longer than any test; a question that takes so long fails its test.
constexpr absl::Duration kPatience = absl::Minutes(10);
// The contract says 100 ms; the rest is for a machine busy with other tests.
constexpr absl::Duration kStopTimeMax = absl::Seconds(1);

// One question and its answer.
class Question {
 public:
  explicit Question(BackendResolver* resolver,
                    absl::Duration timeout = kPatience) {
    ResolveRequest request;
    request.timeout = timeout;
    resolver->Resolve(request,
                      [answer = answer_](absl::StatusOr<ResolveResult> result) {
                        internal::MutexLock lock(&answer->mutex);
                        ++answer->count;
                        answer->result = std::move(result);
                      });
  }

  int count() const {
    internal::MutexLock lock(&answer_->mutex);
    return answer_->count;
  }
  bool is_answered() const { return count() > 0; }
  // The address and the label, or the code and text of the error.
  std::string Await() const {
    const absl::StatusOr<ResolveResult> result = AwaitResult();
    if (!result.ok()) return result.status().ToString();
    return absl::StrCat(result->backend.ToString(), " ", result->label);
  }
  absl::StatusCode AwaitCode() const { return AwaitResult().status().code(); }

 private:
  struct Answer {
    internal::Mutex mutex;
    int count ABSL_GUARDED_BY(mutex) = 0;
    absl::StatusOr<ResolveResult> result ABSL_GUARDED_BY(mutex);
  };

  absl::StatusOr<ResolveResult> AwaitResult() const {
    if (!AwaitTrue([this] { return is_answered(); })) {
      return absl::UnknownError("no answer");
    }
    internal::MutexLock lock(&answer_->mutex);
    return answer_->result;
  }

  std::shared_ptr<Answer> answer_ = std::make_shared<Answer>();
};

class RedisBackendResolverTest : public ::testing::Test {
 protected:
  RedisBackendResolverTest() {
    HostLookupOptions lookup_options;
    lookup_options.dns_servers = dns_.address();
    lookup_ = *HostLookup::Create(lookup_options);
    options_.log_sink = log_.Sink();
    options_.command_timeout = absl::Seconds(10);
    options_.reconnect_backoff_min = absl::Milliseconds(5);
    options_.reconnect_backoff_max = absl::Milliseconds(50);
    // Most tests are of other things, and need not wait.
    options_.failure_pause = absl::Milliseconds(1);
  }

  std::shared_ptr<RedisBackendResolver> Make(absl::string_view address) {
    options_.address = std::string(address);
    auto resolver = RedisBackendResolver::Create(options_, lookup_);
    EXPECT_TRUE(resolver.ok()) << resolver.status();
    return *std::move(resolver);
  }
  std::shared_ptr<RedisBackendResolver> MakeConnected(
      absl::string_view address) {
    auto resolver = Make(address);
    EXPECT_TRUE(AwaitHealthy(resolver.get())) << resolver->Health();
    return resolver;
  }
  static bool AwaitHealthy(RedisBackendResolver* resolver) {
    return AwaitTrue([&] { return resolver->Health().ok(); });
  }
  // As clients do: asks until the answer is `wanted`.
  static bool AwaitAnswer(RedisBackendResolver* resolver,
                          absl::string_view wanted) {
    return AwaitTrue([&] { return Question(resolver).Await() == wanted; });
  }
  // Starts a Redis; aborts the test where that fails.
  static std::unique_ptr<RedisServer> StartRedis(
      RedisServerOptions options = {}) {
    auto redis = std::make_unique<RedisServer>(std::move(options));
    const absl::Status status = redis->Start();
    EXPECT_TRUE(status.ok()) << status;
    return redis;
  }
  static void Set(const RedisServer& redis, absl::string_view value,
                  absl::string_view key = kKey) {
    const auto done =
        redis.Command({"SET", std::string(key), std::string(value)});
    EXPECT_TRUE(done.ok()) << done.status();
  }
  // True where the resolver has taken all questions that were asked before: one
  // without patience has its answer by then.
  static bool AwaitAllTaken(RedisBackendResolver* resolver) {
    const Question hasty(resolver, absl::ZeroDuration());
    return AwaitTrue([&] { return hasty.is_answered(); });
  }
  static absl::Duration TimeToStop(
      std::shared_ptr<RedisBackendResolver> resolver) {
    const absl::Time before = absl::Now();
    resolver.reset();
    return absl::Now() - before;
  }

  test::FakeDnsServer dns_;
  test::LogCollector log_;
  // Only where a test says so.
  test::SimulatedClock clock_;
  std::shared_ptr<HostLookup> lookup_;
  RedisOptions options_;
};

TEST_F(RedisBackendResolverTest, ReadsTheKeyAnewForEachQuestion) {
  const auto redis = StartRedis();
  const auto resolver = MakeConnected(redis->tcp_address());
  Set(*redis, " 10.0.0.5:19132\n");
  EXPECT_EQ(Question(resolver.get()).Await(), "10.0.0.5:19132 10.0.0.5:19132");
  Set(*redis, "[fd00::5]:1");
  EXPECT_EQ(Question(resolver.get()).Await(), "[fd00::5]:1 [fd00::5]:1");
  EXPECT_EQ(log_.CountOf("info: Redis " + redis->tcp_address() +
                         " (backend key): connected, backends come from key "
                         "\"udp_gate:backend\""),
            1);
  EXPECT_EQ(log_.lines().size(), 1u);
}

TEST_F(RedisBackendResolverTest, LooksUpTheNameInTheKey) {
  dns_.Set("lobby.test", {"10.0.0.7"});
  const auto redis = StartRedis();
  const auto resolver = MakeConnected(redis->tcp_address());
  Set(*redis, "lobby.test:19132");
  EXPECT_EQ(Question(resolver.get()).Await(),
            "10.0.0.7:19132 lobby.test:19132");
  Set(*redis, "missing.test:19132");
  EXPECT_THAT(Question(resolver.get()).Await(), HasSubstr("NOT_FOUND"));
}

TEST_F(RedisBackendResolverTest, SaysWhatIsWrongWithTheKey) {
  const auto redis = StartRedis();
  const auto resolver = MakeConnected(redis->tcp_address());
  EXPECT_EQ(Question(resolver.get()).Await(),
            "NOT_FOUND: key \"udp_gate:backend\" is missing");
  for (const std::string& value :
       {std::string(), std::string(" \n"), std::string("garbage"),
        std::string("1.2.3.4"), std::string("1.2.3.4:0"),
        std::string("\0\xff\r\n*3\r\n", 8), std::string(60000, 'x')}) {
    Set(*redis, value);
    EXPECT_THAT(Question(resolver.get()).Await(),
                HasSubstr("INVALID_ARGUMENT: key \"udp_gate:backend\""));
  }
  ASSERT_TRUE(redis->Command({"DEL", kKey}).ok());
  ASSERT_TRUE(redis->Command({"LPUSH", kKey, "1.2.3.4:5"}).ok());
  EXPECT_THAT(
      Question(resolver.get()).Await(),
      HasSubstr("INVALID_ARGUMENT: key \"udp_gate:backend\": Redis " +
                redis->tcp_address() + " (backend key): answered \"WRONGTYPE"));
  // All on one connection that nothing of this has ended.
  EXPECT_EQ(log_.lines().size(), 1u);
  ASSERT_TRUE(redis->Command({"DEL", kKey}).ok());
  Set(*redis, "1.2.3.4:5");
  EXPECT_EQ(Question(resolver.get()).Await(), "1.2.3.4:5 1.2.3.4:5");
}

TEST_F(RedisBackendResolverTest, SurvivesAValueOfOneMegabyte) {
  const auto redis = StartRedis();
  const auto resolver = MakeConnected(redis->tcp_address());
  Set(*redis, std::string(1 << 20, 'x'));
  EXPECT_THAT(Question(resolver.get()).Await(),
              HasSubstr("INVALID_ARGUMENT: key \"udp_gate:backend\""));
  Set(*redis, "1.2.3.4:5");
  EXPECT_TRUE(AwaitAnswer(resolver.get(), "1.2.3.4:5 1.2.3.4:5"));
}

TEST_F(RedisBackendResolverTest, UsesAUnixSocketAndADatabase) {
  RedisServerOptions server;
  server.tcp = false;
  server.unix_socket = true;
  const auto redis = StartRedis(server);
  options_.database = 3;
  options_.backend_key = "other key";
  ASSERT_TRUE(redis->Command({"SET", "other key", "1.2.3.4:1"}).ok());
  ASSERT_TRUE(redis->Command({"MOVE", "other key", "3"}).ok());
  const auto resolver = MakeConnected(redis->unix_address());
  EXPECT_EQ(Question(resolver.get()).Await(), "1.2.3.4:1 1.2.3.4:1");
}

TEST_F(RedisBackendResolverTest, FindsRedisByItsName) {
  dns_.Set("redis.test", {"127.0.0.1"});
  const auto redis = StartRedis();
  Set(*redis, "1.2.3.4:5");
  const auto resolver =
      MakeConnected(absl::StrCat("redis.test:", redis->port()));
  EXPECT_EQ(Question(resolver.get()).Await(), "1.2.3.4:5 1.2.3.4:5");
}

TEST_F(RedisBackendResolverTest, TriesEachAddressOfTheName) {
  dns_.Set("redis.test", {"127.0.0.9", "127.0.0.1"});  // nobody at the first
  const auto redis = StartRedis();
  MakeConnected(absl::StrCat("redis.test:", redis->port()));
}

TEST_F(RedisBackendResolverTest, SaysThatTheNameOfRedisIsUnknown) {
  const auto resolver = Make("missing.test:6379");
  EXPECT_TRUE(AwaitTrue([&] {
    return log_.CountOf(
        "warn: Redis missing.test:6379 (backend key): host "
        "\"missing.test\"");
  }));
}

TEST_F(RedisBackendResolverTest, LogsInWithAPassword) {
  RedisServerOptions server;
  server.password = "se\"cret\r\n*1";
  server.extra_arguments = {"--requirepass", server.password};
  const auto redis = StartRedis(server);
  Set(*redis, "1.2.3.4:5");
  options_.password = server.password;
  const auto resolver = MakeConnected(redis->tcp_address());
  EXPECT_EQ(Question(resolver.get()).Await(), "1.2.3.4:5 1.2.3.4:5");
}

TEST_F(RedisBackendResolverTest, LogsInAsAUserWhoMayOnlyGet) {
  const auto redis = StartRedis();
  ASSERT_TRUE(
      redis->Command({"ACL", "SETUSER", "gate", "on", ">secret", "~*", "+get"})
          .ok());
  Set(*redis, "1.2.3.4:5");
  options_.username = "gate";
  options_.password = "secret";
  options_.ping_interval = absl::Milliseconds(5);
  const auto resolver = MakeConnected(redis->tcp_address());
  EXPECT_EQ(Question(resolver.get()).Await(), "1.2.3.4:5 1.2.3.4:5");
  ASSERT_TRUE(redis->Command({"ACL", "SETUSER", "gate", "-get"}).ok());
  EXPECT_THAT(Question(resolver.get()).Await(),
              HasSubstr("FAILED_PRECONDITION"));
}

TEST_F(RedisBackendResolverTest, SaysThatTheLogInFailsWithoutThePassword) {
  RedisServerOptions server;
  server.password = "right";
  server.extra_arguments = {"--requirepass", "right"};
  const auto redis = StartRedis(server);
  for (const char* password : {"", "wrong-secret"}) {
    options_.password = password;
    const auto resolver = Make(redis->tcp_address());
    const std::string kind = *password == 0 ? "NOAUTH" : "WRONGPASS";
    EXPECT_TRUE(AwaitTrue([&] { return log_.CountOf(kind) == 1; }));
    EXPECT_EQ(Question(resolver.get()).AwaitCode(),
              absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(resolver->Health().code(), absl::StatusCode::kFailedPrecondition);
  }
  EXPECT_THAT(log_.lines(), Each(Not(HasSubstr("wrong-secret"))));
}

TEST_F(RedisBackendResolverTest, NeverShowsThePasswordThatAPeerSendsBack) {
  // As it is, and as Redis quotes an unknown command: cut.
  const std::function<std::string(const std::string&)> answers[] = {
      [](const std::string& password) { return "-ERR " + password; },
      [](const std::string& password) {
        return "-ERR unknown command 'AUTH', with args beginning with: '" +
               password.substr(0, 8) + "'";
      },
      [](const std::string& password) { return "-" + password; }};
  options_.password = "wrong-secret";
  for (const auto& answer : answers) {
    const ScriptedPeer peer([&](const ScriptedPeer::Command& command) {
      return ScriptedPeer::Say(answer(command.back()) + "\r\n");
    });
    const auto resolver = Make(peer.address());
    EXPECT_TRUE(AwaitTrue([&] {
      return log_.CountOf(peer.address() +
                          " (backend key): refused the log-in");
    }));
    EXPECT_THAT(Question(resolver.get()).Await(), Not(HasSubstr("wrong-")));
    EXPECT_THAT(resolver->Health().ToString(), Not(HasSubstr("wrong-")));
  }
  EXPECT_THAT(log_.lines(), Each(Not(HasSubstr("wrong-"))));
}

TEST_F(RedisBackendResolverTest, StartsWithoutRedisAndFindsItLater) {
  RedisServer redis;
  const auto resolver = Make(redis.tcp_address());
  EXPECT_TRUE(AwaitTrue([&] { return log_.CountOf("Connection refused"); }));
  // Away: an answer at once, however patient the question is.
  EXPECT_EQ(Question(resolver.get()).AwaitCode(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(resolver->Health().code(), absl::StatusCode::kUnavailable);
  ASSERT_TRUE(redis.Start().ok());
  Set(redis, "1.2.3.4:5");
  EXPECT_TRUE(AwaitAnswer(resolver.get(), "1.2.3.4:5 1.2.3.4:5"));
  EXPECT_TRUE(resolver->Health().ok());
  // Said once, not at each attempt.
  EXPECT_EQ(log_.CountOf("warn:"), 1);
  EXPECT_EQ(log_.CountOf("info:"), 1);
}

TEST_F(RedisBackendResolverTest, ComesBackAfterARestart) {
  const auto redis = StartRedis();
  const auto resolver = MakeConnected(redis->tcp_address());
  for (int round = 0; round < 3; ++round) {
    redis->Kill();
    EXPECT_TRUE(AwaitTrue([&] { return !resolver->Health().ok(); }));
    EXPECT_EQ(Question(resolver.get()).AwaitCode(),
              absl::StatusCode::kUnavailable);
    ASSERT_TRUE(redis->Restart().ok());
    Set(*redis, absl::StrCat("1.2.3.4:", round + 1));
    const std::string backend = absl::StrCat("1.2.3.4:", round + 1);
    EXPECT_TRUE(AwaitAnswer(resolver.get(), backend + " " + backend));
  }
}

TEST_F(RedisBackendResolverTest, DoesNotWaitForARedisThatHangs) {
  const auto redis = StartRedis();
  Set(*redis, "1.2.3.4:5");
  options_.command_timeout = absl::Milliseconds(50);
  const auto resolver = MakeConnected(redis->tcp_address());
  redis->Pause();
  EXPECT_THAT(Question(resolver.get()).Await(),
              HasSubstr("UNAVAILABLE: Redis " + redis->tcp_address() +
                        " (backend key): no answer within 50ms"));
  redis->Resume();
  EXPECT_TRUE(AwaitAnswer(resolver.get(), "1.2.3.4:5 1.2.3.4:5"));
}

TEST_F(RedisBackendResolverTest, NoticesARedisThatHangsWhileNobodyAsks) {
  const auto redis = StartRedis();
  options_.command_timeout = absl::Milliseconds(50);
  options_.ping_interval = absl::Milliseconds(5);
  const auto resolver = MakeConnected(redis->tcp_address());
  redis->Pause();
  EXPECT_TRUE(AwaitTrue([&] { return !resolver->Health().ok(); }));
  redis->Resume();
  EXPECT_TRUE(AwaitHealthy(resolver.get()));
}

TEST_F(RedisBackendResolverTest, HealthTellsOfTheLastAnswerAndRecovers) {
  const auto redis = StartRedis();
  options_.ping_interval = absl::Milliseconds(5);
  const auto resolver = MakeConnected(redis->tcp_address());
  EXPECT_EQ(Question(resolver.get()).AwaitCode(), absl::StatusCode::kNotFound);
  EXPECT_EQ(resolver->Health().code(), absl::StatusCode::kNotFound);
  Set(*redis, "1.2.3.4:5");
  EXPECT_TRUE(AwaitHealthy(resolver.get()));  // and no client has asked
}

// While a GET runs, those who ask share the next one, and see what was set
// after the first was sent.
TEST_F(RedisBackendResolverTest, QuestionsThatWaitTogetherShareOneGet) {
  ScriptedPeer peer(ScriptedPeer::Healthy);
  options_.gets_in_flight_max = 1;
  const auto resolver = MakeConnected(peer.address());
  const Question first(resolver.get());
  ASSERT_TRUE(AwaitTrue([&] { return peer.command_count("GET") == 1; }));
  std::vector<Question> others;
  for (int i = 0; i < 100; ++i) others.emplace_back(resolver.get());
  // That this one was given up shows that all of them were seen.
  EXPECT_EQ(Question(resolver.get(), absl::Milliseconds(1)).AwaitCode(),
            absl::StatusCode::kDeadlineExceeded);
  peer.SayToAll(ScriptedPeer::Bulk("10.0.0.1:1"));
  EXPECT_EQ(first.Await(), "10.0.0.1:1 10.0.0.1:1");
  ASSERT_TRUE(AwaitTrue([&] { return peer.command_count("GET") == 2; }));
  for (const Question& other : others) EXPECT_FALSE(other.is_answered());
  peer.SayToAll(ScriptedPeer::Bulk("10.0.0.2:2"));
  for (const Question& other : others) {
    EXPECT_EQ(other.Await(), "10.0.0.2:2 10.0.0.2:2");
    EXPECT_EQ(other.count(), 1);
  }
  EXPECT_EQ(peer.command_count("GET"), 2);
}

TEST_F(RedisBackendResolverTest, PipelinesGetsUpToTheLimit) {
  ScriptedPeer peer(ScriptedPeer::Healthy);
  options_.gets_in_flight_max = 3;
  const auto resolver = MakeConnected(peer.address());
  std::vector<Question> questions;
  for (int i = 1; i <= 3; ++i) {
    questions.emplace_back(resolver.get());
    ASSERT_TRUE(AwaitTrue([&] { return peer.command_count("GET") == i; }));
  }
  for (int i = 0; i < 20; ++i) questions.emplace_back(resolver.get());
  // All three answers, then one for all the others.
  peer.SayToAll(ScriptedPeer::Bulk("10.0.0.1:1") +
                ScriptedPeer::Bulk("10.0.0.2:2") +
                ScriptedPeer::Bulk("10.0.0.3:3"));
  EXPECT_EQ(questions[0].Await(), "10.0.0.1:1 10.0.0.1:1");
  EXPECT_EQ(questions[1].Await(), "10.0.0.2:2 10.0.0.2:2");
  EXPECT_EQ(questions[2].Await(), "10.0.0.3:3 10.0.0.3:3");
  ASSERT_TRUE(AwaitTrue([&] { return peer.command_count("GET") == 4; }));
  peer.SayToAll(ScriptedPeer::Bulk("10.0.0.4:4"));
  for (size_t i = 3; i < questions.size(); ++i) {
    EXPECT_EQ(questions[i].Await(), "10.0.0.4:4 10.0.0.4:4");
  }
  EXPECT_EQ(peer.command_count("GET"), 4);
}

TEST_F(RedisBackendResolverTest, LimitsTheQuestionsThatWait) {
  std::atomic<bool> is_held{true};
  ScriptedPeer peer([&](const ScriptedPeer::Command& command) {
    if (command[0] != "GET" || is_held.load()) {
      return ScriptedPeer::Healthy(command);
    }
    return ScriptedPeer::Say(ScriptedPeer::Bulk("1.2.3.4:5"));
  });
  options_.requests_waiting_max = 10;
  const auto resolver = MakeConnected(peer.address());
  std::vector<Question> questions;
  for (int i = 0; i < 12; ++i) questions.emplace_back(resolver.get());
  // Inline, so they are answered by now.
  EXPECT_EQ(questions[10].count(), 1);
  EXPECT_EQ(questions[11].AwaitCode(), absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(questions[9].is_answered());
  EXPECT_EQ(resolver->GetStats().questions_refused, 2u);
  EXPECT_EQ(resolver->GetStats().questions_waiting, 10u);
  // What gets its answer, or fails, makes room again.
  ASSERT_TRUE(AwaitTrue([&] { return peer.command_count("GET") > 0; }));
  is_held.store(false);
  peer.CloseAll();
  for (const Question& question : questions) {
    EXPECT_TRUE(AwaitTrue([&] { return question.is_answered(); }));
  }
  EXPECT_TRUE(AwaitAnswer(resolver.get(), "1.2.3.4:5 1.2.3.4:5"));
}

TEST_F(RedisBackendResolverTest, KeepsAQuestionNoLongerThanItsTimeout) {
  ScriptedPeer peer(ScriptedPeer::Healthy);
  options_.gets_in_flight_max = 1;
  const auto resolver = MakeConnected(peer.address());
  const Question in_flight(resolver.get());
  ASSERT_TRUE(AwaitTrue([&] { return peer.command_count("GET") == 1; }));
  const Question patient(resolver.get());
  const Question hasty(resolver.get(), absl::Milliseconds(5));
  EXPECT_EQ(hasty.AwaitCode(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_FALSE(patient.is_answered());
}

TEST_F(RedisBackendResolverTest, KeepsAQuestionWhileItConnects) {
  std::atomic<bool> is_held{true};
  ScriptedPeer peer([&](const ScriptedPeer::Command& command) {
    if (command[0] == "GET") {
      return ScriptedPeer::Say(ScriptedPeer::Bulk("1.2.3.4:5"));
    }
    return is_held.load() ? ScriptedPeer::SayNothing()
                          : ScriptedPeer::Healthy(command);
  });
  const auto resolver = Make(peer.address());
  ASSERT_TRUE(AwaitTrue([&] { return peer.command_count("PING") == 1; }));
  const Question question(resolver.get());
  is_held.store(false);
  peer.SayToAll("+PONG\r\n");
  EXPECT_EQ(question.Await(), "1.2.3.4:5 1.2.3.4:5");
}

TEST_F(RedisBackendResolverTest, AQuestionShortensALongBackoff) {
  const ScriptedPeer peer([](const ScriptedPeer::Command&) {
    return ScriptedPeer::SayAndClose("-ERR max number of clients reached\r\n");
  });
  options_.reconnect_backoff_min = absl::Milliseconds(1);
  options_.reconnect_backoff_max = absl::Hours(1);
  const auto resolver = Make(peer.address());
  // Without questions the thirtieth attempt would come after an hour or more.
  EXPECT_TRUE(AwaitTrue([&] {
    EXPECT_EQ(Question(resolver.get()).AwaitCode(),
              absl::StatusCode::kUnavailable);
    return peer.accepted_count() >= 30;
  }));
}

TEST_F(RedisBackendResolverTest, ManyQuestionsMakeNoStormOfConnections) {
  const ScriptedPeer peer([](const ScriptedPeer::Command&) {
    return ScriptedPeer::SayAndClose("-ERR max number of clients reached\r\n");
  });
  options_.reconnect_backoff_min = absl::Milliseconds(50);
  const absl::Time before = absl::Now();
  const auto resolver = Make(peer.address());
  ASSERT_TRUE(AwaitTrue([&] {
    EXPECT_EQ(Question(resolver.get()).AwaitCode(),
              absl::StatusCode::kUnavailable);
    return peer.accepted_count() >= 5;
  }));
  // At most one in half of the first wait, which is what jitter leaves of it.
  const double waits =
      absl::FDivDuration(absl::Now() - before, absl::Milliseconds(25));
  EXPECT_LE(peer.accepted_count(), waits + 1);
}

// What Redis answers to GET, and what becomes of the question.
struct Answered {
  const char* name;
  std::string bytes;
  absl::StatusCode code;
  const char* text;
  bool is_connection_kept;
};

class RedisAnswerTest : public RedisBackendResolverTest,
                        public ::testing::WithParamInterface<Answered> {};

TEST_P(RedisAnswerTest, FailsTheQuestionAndRecovers) {
  std::atomic<bool> is_bad{true};
  const ScriptedPeer peer([&](const ScriptedPeer::Command& command) {
    if (command[0] != "GET") return ScriptedPeer::Healthy(command);
    return ScriptedPeer::Say(is_bad.load() ? GetParam().bytes
                                           : ScriptedPeer::Bulk("1.2.3.4:5"));
  });
  const auto resolver = MakeConnected(peer.address());
  const Question question(resolver.get());
  EXPECT_EQ(question.AwaitCode(), GetParam().code) << question.Await();
  EXPECT_THAT(question.Await(), HasSubstr(GetParam().text));
  // Else a new connection may be there already.
  if (GetParam().is_connection_kept) {
    EXPECT_FALSE(resolver->Health().ok());
  }
  is_bad.store(false);
  EXPECT_TRUE(AwaitAnswer(resolver.get(), "1.2.3.4:5 1.2.3.4:5"));
  EXPECT_TRUE(resolver->Health().ok());
  if (GetParam().is_connection_kept) {
    EXPECT_EQ(peer.accepted_count(), 1);
  } else {
    EXPECT_GE(peer.accepted_count(), 2);
  }
}

constexpr auto kUnavailable = absl::StatusCode::kUnavailable;
constexpr auto kFailedPrecondition = absl::StatusCode::kFailedPrecondition;

INSTANTIATE_TEST_SUITE_P(
    All, RedisAnswerTest,
    ::testing::Values(
        Answered{"Loading", "-LOADING Redis is loading the dataset\r\n",
                 kUnavailable, "LOADING Redis is", true},
        Answered{"ReadOnly", "-READONLY You can't write\r\n", kUnavailable,
                 "READONLY", true},
        Answered{"NoAuth", "-NOAUTH Authentication required.\r\n",
                 kFailedPrecondition, "NOAUTH", false},
        Answered{"NoPerm", "-NOPERM no\r\n", kFailedPrecondition, "NOPERM",
                 true},
        Answered{"Moved", "-MOVED 1 10.0.0.1:6379\r\n", kFailedPrecondition,
                 "MOVED", true},
        Answered{"Error", "-ERR \x01\xff\r\n", kFailedPrecondition,
                 "ERR \\x01\\xff", true},
        Answered{"LongError", "-" + std::string(60000, 'e') + "\r\n",
                 kFailedPrecondition, "eeee", true},
        Answered{"Nil", "$-1\r\n", absl::StatusCode::kNotFound, "missing",
                 true},
        Answered{"Integer", ":5\r\n", kUnavailable, "no string", false},
        Answered{"Status", "+OK\r\n", kUnavailable, "no string", false},
        Answered{"Array", "*1\r\n$1\r\na\r\n", kUnavailable, "no string",
                 false},
        Answered{"Message", "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n",
                 kUnavailable, "no subscription", false},
        Answered{"AbsurdArray", "*2000000000\r\n", kUnavailable,
                 "not the Redis protocol", false},
        Answered{"AbsurdString", "$2000000000\r\n",
                 absl::StatusCode::kInvalidArgument, "longer than", false},
        Answered{"NotRedis", "HTTP/1.1 400 Bad Request\r\n\r\n", kUnavailable,
                 "not the Redis protocol", false}),
    [](const ::testing::TestParamInfo<Answered>& answered) {
      return std::string(answered.param.name);
    });

// Answers GET with whatever a test says at that moment.
class Oracle {
 public:
  explicit Oracle(absl::string_view bytes) { Say(bytes); }

  void Say(absl::string_view bytes) {
    internal::MutexLock lock(&mutex_);
    bytes_ = std::string(bytes);
    is_away_ = false;
  }
  void SayBackend(absl::string_view value) { Say(ScriptedPeer::Bulk(value)); }
  // Accepts connections and closes them, those that there are included.
  void GoAway() {
    {
      internal::MutexLock lock(&mutex_);
      is_away_ = true;
    }
    peer_.CloseAll();
  }

  // These may be made again.
  void CloseConnections() { peer_.CloseAll(); }

  std::string address() const { return peer_.address(); }
  int gets() const { return peer_.command_count("GET"); }
  bool AwaitGets(int count) const {
    return AwaitTrue([&] { return gets() == count; });
  }

 private:
  ScriptedPeer::Action Answer(const ScriptedPeer::Command& command) {
    internal::MutexLock lock(&mutex_);
    if (is_away_) return ScriptedPeer::SayAndClose("");
    if (command[0] != "GET") return ScriptedPeer::Healthy(command);
    return ScriptedPeer::Say(bytes_);
  }

  internal::Mutex mutex_;
  std::string bytes_ ABSL_GUARDED_BY(mutex_);
  bool is_away_ ABSL_GUARDED_BY(mutex_) = false;
  ScriptedPeer peer_{
      [this](const ScriptedPeer::Command& command) { return Answer(command); }};
};

constexpr char kBackend[] = "1.2.3.4:5 1.2.3.4:5";

TEST_F(RedisBackendResolverTest, NeverAsksMoreOftenThanItMay) {
  Oracle redis(ScriptedPeer::Bulk("1.2.3.4:5"));
  options_.clock = &clock_;
  options_.gets_per_second_max = 10;
  const auto resolver = MakeConnected(redis.address());
  EXPECT_EQ(Question(resolver.get()).Await(), kBackend);
  std::vector<Question> crowd;
  for (int i = 0; i < 100; ++i) crowd.emplace_back(resolver.get());
  // 100 ms for each, less the burst of 10 ms.
  clock_.Advance(absl::Milliseconds(90) - absl::Nanoseconds(1));
  ASSERT_TRUE(AwaitAllTaken(resolver.get()));
  EXPECT_EQ(redis.gets(), 1);
  for (const Question& question : crowd) EXPECT_FALSE(question.is_answered());
  // They see what was set while they waited.
  redis.SayBackend("6.7.8.9:5");
  clock_.Advance(absl::Nanoseconds(1));
  for (const Question& question : crowd) {
    EXPECT_EQ(question.Await(), "6.7.8.9:5 6.7.8.9:5");
    EXPECT_EQ(question.count(), 1);
  }
  EXPECT_EQ(redis.gets(), 2);
  EXPECT_EQ(resolver->GetStats().gets_sent, 2u);
  EXPECT_EQ(resolver->GetStats().questions_waiting, 0u);
}

// Of a line `name: value` in the status of a thread of this process.
std::string StatusOf(pid_t thread, absl::string_view name) {
  std::ifstream status(absl::StrCat("/proc/self/task/", thread, "/status"));
  for (std::string line; std::getline(status, line);) {
    const std::pair<std::string, std::string> field =
        absl::StrSplit(line, absl::MaxSplits(":\t", 1));
    if (field.first == name) return field.second;
  }
  return std::string();
}

TEST_F(RedisBackendResolverTest, WhoWaitsWithOthersWakesNobody) {
  Oracle redis(ScriptedPeer::Bulk("1.2.3.4:5"));
  options_.clock = &clock_;
  options_.gets_per_second_max = 1;
  const auto resolver = MakeConnected(redis.address());
  EXPECT_EQ(Question(resolver.get()).Await(), kBackend);
  std::vector<Question> crowd;
  crowd.emplace_back(resolver.get());
  ASSERT_TRUE(AwaitAllTaken(resolver.get()));
  const auto threads = test::ThreadsOf(getpid());
  ASSERT_EQ(threads.count("udpgate-redis-g"), 1u);
  const pid_t thread = threads.find("udpgate-redis-g")->second;
  const auto await_sleep = [&] {
    return AwaitTrue(
        [&] { return absl::StartsWith(StatusOf(thread, "State"), "S"); });
  };
  const auto sleeps = [&] {
    return std::stoi(StatusOf(thread, "voluntary_ctxt_switches"));
  };
  ASSERT_TRUE(await_sleep());
  const int before = sleeps();
  constexpr int kCrowd = 100;
  for (int i = 0; i < kCrowd; ++i) {
    crowd.emplace_back(resolver.get());
    ASSERT_TRUE(await_sleep());
  }
  // It may look at the clock now and then.
  EXPECT_LT(sleeps() - before, kCrowd / 4);
  // One whose time is shorter is not left to wait with them.
  ASSERT_TRUE(AwaitAllTaken(resolver.get()));
  clock_.Advance(absl::Seconds(1));
  for (const Question& question : crowd) EXPECT_EQ(question.Await(), kBackend);
  EXPECT_EQ(redis.gets(), 2);
}

// The calls of GET, as the server itself counts them.
int64_t GetsServed(const RedisServer& redis) {
  const auto info = redis.Command({"INFO", "commandstats"});
  EXPECT_TRUE(info.ok()) << info.status();
  const std::string prefix = "cmdstat_get:calls=";
  const size_t begin = info->find(prefix);
  if (begin == std::string::npos) return 0;
  return std::stoll(info->substr(begin + prefix.size()));
}

TEST_F(RedisBackendResolverTest, AFloodAsksRedisAtALimitedRate) {
  const auto redis = StartRedis();
  Set(*redis, "1.2.3.4:5");
  options_.gets_per_second_max = 100;
  const int64_t begin = Clock::Monotonic()->NowNanoseconds();
  const auto resolver = MakeConnected(redis->tcp_address());
  std::atomic<int> unanswered{0};
  int asked = 0;
  while (resolver->GetStats().gets_sent < 20) {
    if (unanswered.load() >= 1000) continue;
    ResolveRequest request;
    request.timeout = kPatience;
    unanswered.fetch_add(1);
    ++asked;
    resolver->Resolve(request, [&](absl::StatusOr<ResolveResult> result) {
      EXPECT_TRUE(result.ok()) << result.status();
      unanswered.fetch_sub(1);
    });
  }
  EXPECT_TRUE(AwaitTrue([&] { return unanswered.load() == 0; }));
  const double seconds =
      static_cast<double>(Clock::Monotonic()->NowNanoseconds() - begin) * 1e-9;
  const int64_t gets = GetsServed(*redis);
  EXPECT_EQ(static_cast<uint64_t>(gets), resolver->GetStats().gets_sent);
  EXPECT_LE(gets, seconds * 100 + 2);
  EXPECT_GT(asked, 1000);  // so many shared them
}

// The contract: a client that was told that there is no backend may try again
// at once, and is served where there is one by then.
TEST_F(RedisBackendResolverTest, WhoTriesAgainAtOnceSeesWhatWasSetMeanwhile) {
  options_.failure_pause = RedisOptions().failure_pause;
  const auto redis = StartRedis();
  const auto resolver = MakeConnected(redis->tcp_address());
  for (int round = 1; round <= 3; ++round) {
    EXPECT_EQ(Question(resolver.get()).AwaitCode(),
              absl::StatusCode::kNotFound);
    Set(*redis, "1.2.3.4:5");
    EXPECT_EQ(Question(resolver.get()).Await(), kBackend);
    ASSERT_TRUE(redis->Command({"DEL", kKey}).ok());
  }
  EXPECT_EQ(resolver->GetStats().gets_sent, 6u);
}

// What Redis says where it names no backend, and what becomes of questions.
struct Failing {
  const char* name;
  std::string bytes;
  absl::StatusCode code;
  // Redis is away, so that the last backend may be given.
  bool is_away;
};

class RedisFailureTest : public RedisBackendResolverTest,
                         public ::testing::WithParamInterface<Failing> {
 protected:
  RedisFailureTest() {
    options_.clock = &clock_;
    options_.failure_pause = absl::Milliseconds(100);
  }
};

INSTANTIATE_TEST_SUITE_P(
    All, RedisFailureTest,
    ::testing::Values(
        Failing{"Missing", "$-1\r\n", absl::StatusCode::kNotFound, false},
        Failing{"Empty", "$0\r\n\r\n", absl::StatusCode::kInvalidArgument,
                false},
        Failing{"Garbage", "$7\r\ngarbage\r\n",
                absl::StatusCode::kInvalidArgument, false},
        Failing{"NoHost", "$9\r\n0.0.0.0:5\r\n",
                absl::StatusCode::kInvalidArgument, false},
        Failing{"UnknownName", "$14\r\nunknown.test:5\r\n",
                absl::StatusCode::kNotFound, false},
        Failing{"WrongType", "-WRONGTYPE holds the wrong kind of value\r\n",
                absl::StatusCode::kInvalidArgument, false},
        Failing{"Loading", "-LOADING later\r\n", kUnavailable, true},
        Failing{"NoPermission", "-NOPERM no\r\n", kFailedPrecondition, true},
        Failing{"Error", "-ERR what?\r\n", kFailedPrecondition, true}),
    [](const ::testing::TestParamInfo<Failing>& failing) {
      return std::string(failing.param.name);
    });

TEST_P(RedisFailureTest, MakesTheNextOnesWaitAndShareOneGet) {
  Oracle redis(GetParam().bytes);
  const auto resolver = MakeConnected(redis.address());
  EXPECT_EQ(Question(resolver.get()).AwaitCode(), GetParam().code);
  std::vector<Question> crowd;
  for (int i = 0; i < 100; ++i) crowd.emplace_back(resolver.get());
  // One that has no time until the end of the pause gets the failure itself.
  EXPECT_EQ(Question(resolver.get(), options_.failure_pause).AwaitCode(),
            GetParam().code);
  clock_.Advance(options_.failure_pause - absl::Nanoseconds(1));
  ASSERT_TRUE(AwaitAllTaken(resolver.get()));
  EXPECT_EQ(redis.gets(), 1);
  for (const Question& question : crowd) EXPECT_FALSE(question.is_answered());
  redis.SayBackend("1.2.3.4:5");
  clock_.Advance(absl::Nanoseconds(1));
  for (const Question& question : crowd) EXPECT_EQ(question.Await(), kBackend);
  EXPECT_EQ(redis.gets(), 2);
}

TEST_P(RedisFailureTest, IsNoReasonForAStaleAnswerWhereRedisIsThere) {
  options_.stale_backend_age_max = absl::Hours(1);
  Oracle redis(ScriptedPeer::Bulk("1.2.3.4:5"));
  const auto resolver = MakeConnected(redis.address());
  EXPECT_EQ(Question(resolver.get()).Await(), kBackend);
  redis.Say(GetParam().bytes);
  if (GetParam().is_away) {
    // The first asks, and those after it need not.
    for (int i = 1; i <= 10; ++i) {
      EXPECT_EQ(Question(resolver.get()).Await(), kBackend);
      EXPECT_EQ(resolver->GetStats().stale_answers, static_cast<uint64_t>(i));
    }
    EXPECT_EQ(redis.gets(), 2);
    clock_.Advance(options_.failure_pause);
    EXPECT_EQ(Question(resolver.get()).Await(), kBackend);
    EXPECT_EQ(redis.gets(), 3);
    EXPECT_FALSE(resolver->Health().ok());
    EXPECT_EQ(log_.CountOf("is away: new clients get the last backend known, "
                           "1.2.3.4:5, which Redis gave 0 s ago"),
              1);
  } else {
    EXPECT_EQ(Question(resolver.get()).AwaitCode(), GetParam().code);
    // Nor later: it was taken back.
    redis.GoAway();
    ASSERT_TRUE(
        AwaitTrue([&] { return absl::IsUnavailable(resolver->Health()); }));
    clock_.Advance(options_.reconnect_patience);
    EXPECT_EQ(Question(resolver.get()).AwaitCode(), kUnavailable);
    EXPECT_EQ(resolver->GetStats().stale_answers, 0u);
  }
}

TEST_P(RedisFailureTest, IsHandedOnWhereNothingIsStale) {
  Oracle redis(ScriptedPeer::Bulk("1.2.3.4:5"));
  const auto resolver = MakeConnected(redis.address());
  EXPECT_EQ(Question(resolver.get()).Await(), kBackend);
  redis.Say(GetParam().bytes);
  EXPECT_EQ(Question(resolver.get()).AwaitCode(), GetParam().code);
  EXPECT_EQ(resolver->GetStats().stale_answers, 0u);
}

TEST_F(RedisBackendResolverTest, GivesTheLastBackendWhileRedisIsGone) {
  const auto redis = StartRedis();
  Set(*redis, "1.2.3.4:5");
  options_.stale_backend_age_max = absl::Hours(1);
  const auto resolver = MakeConnected(redis->tcp_address());
  EXPECT_EQ(Question(resolver.get()).Await(), kBackend);
  redis->Kill();
  ASSERT_TRUE(AwaitTrue([&] { return !resolver->Health().ok(); }));
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(Question(resolver.get()).Await(), kBackend);
  }
  EXPECT_EQ(resolver->GetStats().stale_answers, 100u);
  EXPECT_EQ(resolver->GetStats().gets_sent, 1u);
  EXPECT_FALSE(resolver->Health().ok());
  EXPECT_EQ(log_.CountOf("is away: new clients get the last backend known"), 1);
  ASSERT_TRUE(redis->Restart().ok());
  Set(*redis, "6.7.8.9:5");
  EXPECT_TRUE(AwaitAnswer(resolver.get(), "6.7.8.9:5 6.7.8.9:5"));
  ASSERT_TRUE(redis->Command({"DEL", kKey}).ok());
  EXPECT_EQ(Question(resolver.get()).AwaitCode(), absl::StatusCode::kNotFound);
}

TEST_F(RedisBackendResolverTest, GivesNoBackendThatIsTooOld) {
  Oracle redis(ScriptedPeer::Bulk("1.2.3.4:5"));
  options_.clock = &clock_;
  options_.stale_backend_age_max = absl::Seconds(10);
  const auto resolver = MakeConnected(redis.address());
  EXPECT_EQ(Question(resolver.get()).Await(), kBackend);
  clock_.Advance(absl::Seconds(4));
  EXPECT_EQ(Question(resolver.get()).Await(), kBackend);  // said once more
  redis.GoAway();
  ASSERT_TRUE(AwaitTrue([&] { return !resolver->Health().ok(); }));
  clock_.Advance(absl::Seconds(10));
  EXPECT_EQ(Question(resolver.get()).Await(), kBackend);
  EXPECT_EQ(resolver->GetStats().stale_answers, 1u);
  clock_.Advance(absl::Nanoseconds(1));
  // It waits for the next attempt to connect, if that has just begun.
  const Question question(resolver.get());
  ASSERT_TRUE(AwaitTrue([&] {
    clock_.Advance(absl::Milliseconds(1));
    return question.is_answered();
  }));
  EXPECT_EQ(question.AwaitCode(), kUnavailable);
  EXPECT_EQ(resolver->GetStats().stale_answers, 1u);
}

TEST_F(RedisBackendResolverTest, HasNothingStaleBeforeTheFirstBackend) {
  options_.stale_backend_age_max = absl::Hours(1);
  const auto resolver = Make(absl::StrCat("127.0.0.1:", test::FreeTcpPort()));
  EXPECT_EQ(Question(resolver.get()).AwaitCode(), kUnavailable);
}

// Redis takes the GET and says nothing: whoever asked is not left without a
// backend until his time has run out.
TEST_F(RedisBackendResolverTest, GivesTheLastBackendWhileRedisHangs) {
  const auto redis = StartRedis();
  Set(*redis, "1.2.3.4:5");
  test::TcpRelay relay(redis->port());
  options_.stale_backend_age_max = absl::Hours(1);
  options_.command_timeout = absl::Minutes(1);
  options_.gets_in_flight_max = 1;
  const auto resolver = MakeConnected(relay.address());
  EXPECT_EQ(Question(resolver.get()).Await(), kBackend);
  relay.HoldReplies();
  Set(*redis, "6.7.8.9:5");
  const Question patient(resolver.get());
  ASSERT_TRUE(AwaitTrue([&] { return resolver->GetStats().gets_sent == 2; }));
  const Question waits(resolver.get(), absl::Milliseconds(20));
  EXPECT_EQ(waits.Await(), kBackend);
  EXPECT_FALSE(patient.is_answered());
  EXPECT_EQ(resolver->GetStats().stale_answers, 1u);
  relay.ReleaseReplies();
  EXPECT_EQ(patient.Await(), "6.7.8.9:5 6.7.8.9:5");
  // The same for one whose GET is under way.
  relay.HoldReplies();
  const Question in_flight(resolver.get(), absl::Milliseconds(20));
  EXPECT_EQ(in_flight.Await(), "6.7.8.9:5 6.7.8.9:5");
  EXPECT_EQ(resolver->GetStats().stale_answers, 2u);
  EXPECT_EQ(waits.count() + in_flight.count(), 2);
}

TEST_F(RedisBackendResolverTest, GivesTheLastBackendWhenTheGetHasFailed) {
  const auto redis = StartRedis();
  Set(*redis, "1.2.3.4:5");
  options_.stale_backend_age_max = absl::Hours(1);
  options_.command_timeout = absl::Milliseconds(50);
  const auto resolver = MakeConnected(redis->tcp_address());
  EXPECT_EQ(Question(resolver.get()).Await(), kBackend);
  redis->Pause();
  EXPECT_EQ(Question(resolver.get()).Await(), kBackend);
  EXPECT_EQ(resolver->GetStats().stale_answers, 1u);
  redis->Resume();
}

// It is the pace of the gate, and not Redis, that these wait for.
TEST_F(RedisBackendResolverTest, GivesNothingStaleToWhoWaitsForThePace) {
  Oracle redis(ScriptedPeer::Bulk("1.2.3.4:5"));
  options_.clock = &clock_;
  options_.gets_per_second_max = 1;
  options_.stale_backend_age_max = absl::Hours(1);
  const auto resolver = MakeConnected(redis.address());
  EXPECT_EQ(Question(resolver.get()).Await(), kBackend);
  const Question question(resolver.get(), absl::Milliseconds(500));
  clock_.Advance(absl::Milliseconds(400));
  ASSERT_TRUE(AwaitAllTaken(resolver.get()));
  EXPECT_FALSE(question.is_answered());
  clock_.Advance(absl::Milliseconds(100));
  EXPECT_EQ(question.AwaitCode(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(resolver->GetStats().stale_answers, 0u);
}

TEST_F(RedisBackendResolverTest, AHangingNameServerDelaysNobodyElse) {
  const auto redis = StartRedis();
  dns_.Hold();
  Set(*redis, "lobby.test:19132");
  const auto resolver = MakeConnected(redis->tcp_address());
  const Question hanging(resolver.get());
  ASSERT_TRUE(AwaitTrue([&] { return dns_.query_count("lobby.test") == 1; }));
  Set(*redis, "1.2.3.4:5");
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(Question(resolver.get()).Await(), kBackend);
  }
  EXPECT_FALSE(hanging.is_answered());
  EXPECT_TRUE(resolver->Health().ok());
}

TEST_F(RedisBackendResolverTest, AReplyCutInTheMiddleIsNoAnswer) {
  const std::string reply = ScriptedPeer::Bulk("1.2.3.4:5");
  for (size_t cut = 0; cut < reply.size(); ++cut) {
    const ScriptedPeer peer([&](const ScriptedPeer::Command& command) {
      if (command[0] != "GET") return ScriptedPeer::Healthy(command);
      return ScriptedPeer::SayAndClose(reply.substr(0, cut));
    });
    const auto resolver = MakeConnected(peer.address());
    EXPECT_THAT(Question(resolver.get()).Await(),
                HasSubstr("closed the connection"));
  }
}

TEST_F(RedisBackendResolverTest, AQuestionWhoseConnectionClosesIsAskedAgain) {
  std::atomic<int> cuts{2};
  const ScriptedPeer peer([&](const ScriptedPeer::Command& command) {
    if (command[0] != "GET") return ScriptedPeer::Healthy(command);
    if (cuts.fetch_sub(1) > 0) return ScriptedPeer::SayAndClose("$9\r\n");
    return ScriptedPeer::Say(ScriptedPeer::Bulk("1.2.3.4:5"));
  });
  const auto resolver = MakeConnected(peer.address());
  const Question question(resolver.get());
  EXPECT_EQ(question.Await(), kBackend);
  EXPECT_EQ(question.count(), 1);
  EXPECT_EQ(resolver->GetStats().questions_asked_again, 2u);
}

TEST_F(RedisBackendResolverTest, AQuestionIsAskedThreeTimesAtMost) {
  const ScriptedPeer peer([&](const ScriptedPeer::Command& command) {
    if (command[0] != "GET") return ScriptedPeer::Healthy(command);
    return ScriptedPeer::SayAndClose("");
  });
  const auto resolver = MakeConnected(peer.address());
  EXPECT_THAT(Question(resolver.get()).Await(),
              HasSubstr("closed the connection"));
  EXPECT_EQ(peer.command_count("GET"), 3);
}

// Right after the loss there is no connection, and no attempt runs.
TEST_F(RedisBackendResolverTest, AQuestionAfterALossWaitsForTheReconnect) {
  Oracle redis(ScriptedPeer::Bulk("1.2.3.4:5"));
  options_.clock = &clock_;
  options_.reconnect_backoff_min = absl::Milliseconds(100);
  options_.reconnect_backoff_max = absl::Milliseconds(100);
  const auto resolver = MakeConnected(redis.address());
  redis.CloseConnections();
  ASSERT_TRUE(AwaitTrue([&] { return !resolver->Health().ok(); }));
  const Question question(resolver.get());
  ASSERT_TRUE(AwaitAllTaken(resolver.get()));
  EXPECT_FALSE(question.is_answered());
  clock_.Advance(absl::Milliseconds(100));
  ASSERT_TRUE(AwaitAllTaken(resolver.get()));  // and so notices the time
  EXPECT_EQ(question.Await(), kBackend);
}

TEST_F(RedisBackendResolverTest, ItWaitsNoLongerThanItsOwnTime) {
  Oracle redis(ScriptedPeer::Bulk("1.2.3.4:5"));
  options_.reconnect_patience = absl::Minutes(1);
  options_.reconnect_backoff_min = absl::Seconds(30);
  options_.reconnect_backoff_max = absl::Seconds(30);
  const auto resolver = MakeConnected(redis.address());
  redis.CloseConnections();
  ASSERT_TRUE(AwaitTrue([&] { return !resolver->Health().ok(); }));
  EXPECT_EQ(Question(resolver.get(), absl::Milliseconds(50)).AwaitCode(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST_F(RedisBackendResolverTest, PatienceEndsWhereRedisStaysAway) {
  Oracle redis(ScriptedPeer::Bulk("1.2.3.4:5"));
  options_.reconnect_patience = absl::Milliseconds(200);
  const auto resolver = MakeConnected(redis.address());
  redis.GoAway();
  ASSERT_TRUE(AwaitTrue([&] { return !resolver->Health().ok(); }));
  EXPECT_EQ(Question(resolver.get()).AwaitCode(), kUnavailable);
  // Now each fails without waiting for anything but an attempt.
  redis.Say(ScriptedPeer::Bulk("1.2.3.4:5"));
  EXPECT_TRUE(AwaitAnswer(resolver.get(), kBackend));
}

// Two servers on one port, of which the name means one or the other.
class MovedRedisTest : public RedisBackendResolverTest {
 protected:
  MovedRedisTest() {
    HostLookupOptions lookup_options;
    lookup_options.dns_servers = dns_.address();
    lookup_options.success_cache_time = absl::ZeroDuration();
    lookup_ = *HostLookup::Create(lookup_options);
    dns_.Set("redis.test", {"127.0.0.1"});
  }

  std::string address() const {
    return absl::StrCat("redis.test:", down_.port());
  }

  ScriptedPeer down_{[](const ScriptedPeer::Command& command) {
    if (command[0] != "GET") return ScriptedPeer::Healthy(command);
    return ScriptedPeer::Say("-MASTERDOWN Link with MASTER is down\r\n");
  }};
  ScriptedPeer up_{[](const ScriptedPeer::Command& command) {
                     if (command[0] != "GET") {
                       return ScriptedPeer::Healthy(command);
                     }
                     return ScriptedPeer::Say(ScriptedPeer::Bulk("1.2.3.4:5"));
                   },
                   "127.0.0.2", down_.port()};
};

TEST_F(MovedRedisTest, TheNameOfAServerWhoseMasterIsDownIsLookedUpAgain) {
  const auto resolver = MakeConnected(address());
  EXPECT_THAT(Question(resolver.get()).Await(), HasSubstr("MASTERDOWN"));
  dns_.Set("redis.test", {"127.0.0.2"});
  EXPECT_TRUE(AwaitAnswer(resolver.get(), kBackend));
  EXPECT_EQ(down_.accepted_count(), 1);
  EXPECT_GE(log_.CountOf("the name leads elsewhere by now"), 1);
}

TEST_F(MovedRedisTest, AnotherAddressOfTheNameIsTried) {
  const auto resolver = MakeConnected(address());
  dns_.Set("redis.test", {"127.0.0.1", "127.0.0.2"});
  EXPECT_TRUE(AwaitAnswer(resolver.get(), kBackend));
}

TEST_F(MovedRedisTest, TheConnectionStaysWhereTheNameDoes) {
  const auto resolver = MakeConnected(address());
  const absl::Time end = absl::Now() + absl::Milliseconds(1500);
  int count = 0;
  while (absl::Now() < end) {
    EXPECT_THAT(Question(resolver.get()).Await(), HasSubstr("MASTERDOWN"));
    ++count;
  }
  EXPECT_GT(count, 2);
  EXPECT_EQ(down_.accepted_count(), 1);
  // At the start, and once a second at most.
  EXPECT_LE(dns_.query_count("redis.test"), 4);
}

TEST_F(RedisBackendResolverTest, ReadsAReplyThatComesByteByByte) {
  const ScriptedPeer peer([](const ScriptedPeer::Command& command) {
    return ScriptedPeer::SayByteByByte(
        command[0] == "GET" ? ScriptedPeer::Bulk("1.2.3.4:5")
                            : ScriptedPeer::Healthy(command).bytes);
  });
  const auto resolver = MakeConnected(peer.address());
  EXPECT_EQ(Question(resolver.get()).Await(), "1.2.3.4:5 1.2.3.4:5");
}

TEST_F(RedisBackendResolverTest, AnAnswerThatNobodyAskedForEndsTheConnection) {
  ScriptedPeer peer(ScriptedPeer::Healthy);
  const auto resolver = MakeConnected(peer.address());
  peer.SayToAll(ScriptedPeer::Bulk("6.6.6.6:6"));
  EXPECT_TRUE(AwaitTrue([&] { return peer.accepted_count() == 2; }));
}

TEST_F(RedisBackendResolverTest, WhoAnswersTheLogInLikeNoRedisIsNone) {
  for (const char* bytes : {":1\r\n", "*1\r\n$4\r\nPING\r\n", "$-1\r\n",
                            "-LOADING later\r\n", "-DENIED mode\r\n", "\n"}) {
    const ScriptedPeer peer(
        [&](const ScriptedPeer::Command&) { return ScriptedPeer::Say(bytes); });
    const auto resolver = Make(peer.address());
    EXPECT_TRUE(AwaitTrue([&] { return peer.accepted_count() >= 2; })) << bytes;
    EXPECT_FALSE(resolver->Health().ok()) << bytes;
  }
}

TEST_F(RedisBackendResolverTest, TricklingBytesAreNoSignOfLife) {
  ScriptedPeer peer(ScriptedPeer::Healthy);
  options_.command_timeout = absl::Milliseconds(50);
  const auto resolver = MakeConnected(peer.address());
  const Question question(resolver.get());
  ASSERT_TRUE(AwaitTrue([&] { return peer.command_count("GET") == 1; }));
  peer.SayToAll("$60000\r\n");
  EXPECT_TRUE(AwaitTrue([&] {
    peer.SayToAll("x");
    return question.is_answered();
  }));
  EXPECT_THAT(question.Await(), HasSubstr("no answer within"));
}

TEST_F(RedisBackendResolverTest, StopsAtOnceWhateverRedisDoes) {
  {
    const ScriptedPeer silent([](const ScriptedPeer::Command&) {
      return ScriptedPeer::SayNothing();
    });
    auto resolver = Make(silent.address());
    ASSERT_TRUE(AwaitTrue([&] { return silent.command_count("PING") == 1; }));
    const Question question(resolver.get());
    EXPECT_LT(TimeToStop(std::move(resolver)), kStopTimeMax) << "never answers";
    EXPECT_FALSE(question.is_answered());
  }
  {
    ScriptedPeer held(ScriptedPeer::Healthy);
    auto resolver = MakeConnected(held.address());
    const Question question(resolver.get());
    ASSERT_TRUE(AwaitTrue([&] { return held.command_count("GET") == 1; }));
    EXPECT_LT(TimeToStop(std::move(resolver)), kStopTimeMax) << "holds a GET";
    EXPECT_FALSE(question.is_answered());
  }
  {
    dns_.Hold();
    auto resolver = Make("redis.test:6379");
    ASSERT_TRUE(AwaitTrue([&] { return dns_.query_count("redis.test") > 0; }));
    EXPECT_LT(TimeToStop(std::move(resolver)), kStopTimeMax) << "DNS hangs";
  }
  {
    options_.reconnect_backoff_min = absl::Hours(1);
    options_.reconnect_backoff_max = absl::Hours(1);
    auto resolver = Make(absl::StrCat("127.0.0.1:", test::FreeTcpPort()));
    ASSERT_TRUE(AwaitTrue([&] { return log_.CountOf("refused") > 0; }));
    EXPECT_LT(TimeToStop(std::move(resolver)), kStopTimeMax) << "backs off";
  }
}

// A listener whose queue is full: the kernel drops further SYNs.
class FullListener {
 public:
  FullListener() : listener_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(::bind(listener_.get(), generic, size), 0);
    EXPECT_EQ(::listen(listener_.get(), 0), 0);
    EXPECT_EQ(::getsockname(listener_.get(), generic, &size), 0);
    address_ = absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
    for (internal::UniqueFd& filler : fillers_) {
      filler.Reset(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
      ::connect(filler.get(), generic, size);
    }
  }
  const std::string& address() const { return address_; }

 private:
  internal::UniqueFd listener_;
  internal::UniqueFd fillers_[4];
  std::string address_;
};

TEST_F(RedisBackendResolverTest, GivesUpAConnectThatHangs) {
  const FullListener listener;
  options_.command_timeout = absl::Milliseconds(30);
  auto resolver = Make(listener.address());
  EXPECT_TRUE(AwaitTrue(
      [&] { return log_.CountOf("no connection within 30ms") == 1; }));
  options_.command_timeout = absl::Minutes(1);
  auto hanging = Make(listener.address());
  const Question question(hanging.get());
  EXPECT_FALSE(question.is_answered());
  EXPECT_LT(TimeToStop(std::move(hanging)), kStopTimeMax);
}

// The timer of the connection to this port of 127.0.0.1, as proc(5) says of
// /proc/net/tcp; "02" is that of keepalive. Empty where there is none.
std::string TimerOfConnectionTo(uint16_t port) {
  const std::string remote = absl::StrCat(
      "0100007F:",
      absl::AsciiStrToUpper(absl::StrCat(absl::Hex(port, absl::kZeroPad4))));
  std::ifstream table("/proc/net/tcp");
  for (std::string line; std::getline(table, line);) {
    // Number, local and remote address, state, queues, timer:expiry.
    const std::vector<std::string> fields =
        absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (fields.size() > 5 && fields[2] == remote && fields[3] == "01") {
      return fields[5].substr(0, fields[5].find(':'));
    }
  }
  return "";
}

TEST_F(RedisBackendResolverTest, KeepsTheConnectionAliveThroughFirewalls) {
  const ScriptedPeer peer(ScriptedPeer::Healthy);
  const auto resolver = MakeConnected(peer.address());
  const auto address = SocketAddress::Parse(peer.address());
  ASSERT_TRUE(address.ok()) << address.status();
  // Another one runs until the last segment is acknowledged.
  EXPECT_TRUE(
      AwaitTrue([&] { return TimerOfConnectionTo(address->port()) == "02"; }));
}

TEST_F(RedisBackendResolverTest, ServesManyThreads) {
  const auto redis = StartRedis();
  Set(*redis, "1.2.3.4:5");
  const auto resolver = MakeConnected(redis->tcp_address());
  constexpr int kThreads = 4;
  constexpr int kQuestions = 2000;
  std::atomic<int> answered{0};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&] {
      for (int i = 0; i < kQuestions; ++i) {
        ResolveRequest request;
        request.timeout = kPatience;
        resolver->Resolve(request, [&](absl::StatusOr<ResolveResult> result) {
          if (result.ok()) answered.fetch_add(1);
        });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(
      AwaitTrue([&] { return answered.load() == kThreads * kQuestions; }));
}

TEST(RedisBackendResolverCreateTest, RefusesBadOptions) {
  RedisOptions options;
  options.address = "nowhere";
  const auto lookup = HostLookup::Create({});
  ASSERT_TRUE(lookup.ok()) << lookup.status();
  EXPECT_EQ(RedisBackendResolver::Create(options, *lookup).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace udpgate
