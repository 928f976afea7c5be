#include "udpgate/admin/internal/token_guard.h"

#include <chrono>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace admin {
namespace internal {
namespace {

using Verdict = TokenGuard::Verdict;

constexpr char kRight[] = "Bearer secret";
constexpr char kWrong[] = "Bearer guess";
constexpr int kWrongMax = 3;

SocketAddress Client(const std::string& ip) {
  return *SocketAddress::FromIpAndPort(ip, 1000);
}

class TokenGuardTest : public ::testing::Test {
 protected:
  Verdict Check(const std::string& ip, const std::string& authorization) {
    return guard_.Check(Client(ip), authorization);
  }
  void CheckWrongTokens(const std::string& ip, int count) {
    for (int i = 0; i < count; ++i) {
      EXPECT_EQ(Check(ip, kWrong), Verdict::kWrong) << ip << " " << i;
    }
  }

  TokenGuard::TimePoint now_{std::chrono::hours(1)};
  TokenGuard guard_{"secret", kWrongMax, absl::Minutes(1),
                    [this] { return now_; }};
};

TEST(EqualsSecretTest, ComparesTheWholeText) {
  EXPECT_TRUE(EqualsSecret("secret", "secret"));
  for (const char* given :
       {"", "s", "secre", "secrets", "Secret", "secreT", "secretsecret"}) {
    EXPECT_FALSE(EqualsSecret(given, "secret")) << given;
  }
  EXPECT_FALSE(EqualsSecret("", ""));
  EXPECT_FALSE(EqualsSecret(std::string("secret\0", 7), "secret"));
}

TEST_F(TokenGuardTest, ChecksTheToken) {
  EXPECT_EQ(Check("192.0.2.1", kRight), Verdict::kRight);
  EXPECT_EQ(Check("192.0.2.1", "bearer secret"), Verdict::kRight);
  EXPECT_EQ(Check("192.0.2.1", ""), Verdict::kMissing);
}

TEST_F(TokenGuardTest, OtherSchemesAreWrong) {
  int client = 0;
  for (const char* authorization :
       {"secret", "Basic secret", "Bearer", "Bearer ", "Bearer  secret",
        "Bearer secret "}) {
    EXPECT_EQ(Check(absl::StrCat("192.0.2.", ++client), authorization),
              Verdict::kWrong)
        << authorization;
  }
}

TEST_F(TokenGuardTest, RefusesEvenTheRightTokenAfterTooManyWrongOnes) {
  CheckWrongTokens("192.0.2.1", kWrongMax);
  EXPECT_EQ(Check("192.0.2.1", kWrong), Verdict::kTooManyWrong);
  EXPECT_EQ(Check("192.0.2.1", kRight), Verdict::kTooManyWrong);
  EXPECT_EQ(Check("192.0.2.2", kRight), Verdict::kRight);
}

TEST_F(TokenGuardTest, CountsAgainAfterTheWindowOfTheFirstWrongToken) {
  CheckWrongTokens("192.0.2.1", 1);
  now_ += std::chrono::seconds(59);
  CheckWrongTokens("192.0.2.1", kWrongMax - 1);
  EXPECT_EQ(Check("192.0.2.1", kRight), Verdict::kTooManyWrong);
  now_ += std::chrono::seconds(1);
  EXPECT_EQ(Check("192.0.2.1", kRight), Verdict::kRight);
  CheckWrongTokens("192.0.2.1", kWrongMax);
  EXPECT_EQ(Check("192.0.2.1", kWrong), Verdict::kTooManyWrong);
}

TEST_F(TokenGuardTest, ARightOrMissingTokenIsNotAFailedAttempt) {
  CheckWrongTokens("192.0.2.1", kWrongMax - 1);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(Check("192.0.2.1", kRight), Verdict::kRight);
    EXPECT_EQ(Check("192.0.2.1", ""), Verdict::kMissing);
  }
  CheckWrongTokens("192.0.2.1", 1);
}

TEST_F(TokenGuardTest, CountsIpv6ClientsByTheir64BitPrefix) {
  CheckWrongTokens("2001:db8::1", 1);
  CheckWrongTokens("2001:db8::2", kWrongMax - 1);
  EXPECT_EQ(Check("2001:db8:0:0:ffff::3", kRight), Verdict::kTooManyWrong);
  EXPECT_EQ(Check("2001:db8:0:1::1", kRight), Verdict::kRight);
}

TEST_F(TokenGuardTest, ForgetsTheWindowThatEndsFirstIfItKnowsTooManyClients) {
  const auto ip = [](size_t i) {
    return absl::StrCat("10.0.", i / 256, ".", i % 256);
  };
  CheckWrongTokens(ip(0), kWrongMax);
  for (size_t i = 1; i < TokenGuard::kAddressesMax; ++i) {
    now_ += std::chrono::milliseconds(1);
    CheckWrongTokens(ip(i), kWrongMax);
  }
  EXPECT_EQ(Check(ip(0), kRight), Verdict::kTooManyWrong);
  CheckWrongTokens(ip(TokenGuard::kAddressesMax), 1);
  EXPECT_EQ(Check(ip(0), kRight), Verdict::kRight);
  EXPECT_EQ(Check(ip(1), kRight), Verdict::kTooManyWrong);
}

TEST(TokenGuardWithoutTokenTest, NoTokenIsRight) {
  TokenGuard guard("", kWrongMax, absl::Minutes(1));
  EXPECT_EQ(guard.Check(Client("192.0.2.1"), "Bearer "), Verdict::kWrong);
}

}  // namespace
}  // namespace internal
}  // namespace admin
}  // namespace udpgate
