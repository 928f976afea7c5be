#include "udpgate/forward/openssl_envelope_keys.h"

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "udpgate/forward/internal/envelope.h"

namespace udpgate {
namespace forward {
namespace {

constexpr char kSecret[] = "0123456789abcdef0123456789abcdef";
constexpr absl::string_view kHeader = "header";

std::shared_ptr<EnvelopeKeys> Keys(absl::string_view secret = kSecret) {
  return *OpenSslEnvelopeKeys::FromSecret(secret);
}

std::vector<char> Seal(EnvelopeKeys& keys, uint64_t sender, uint64_t counter,
                       absl::string_view text) {
  std::vector<char> buffer(text.begin(), text.end());
  buffer.resize(text.size() + EnvelopeCipher::kTagBytes);
  EXPECT_TRUE(keys.CipherOf(sender)->Seal(counter, kHeader, text.size(),
                                          absl::MakeSpan(buffer)));
  return buffer;
}

bool Opens(EnvelopeKeys& keys, uint64_t sender, uint64_t counter,
           absl::string_view header, std::vector<char> sealed) {
  return keys.CipherOf(sender)->Open(counter, header, absl::MakeSpan(sealed));
}

TEST(OpenSslEnvelopeKeysTest, TheSameSecretOpensWhatItHasSealed) {
  const std::vector<char> sealed = Seal(*Keys(), 1, 2, "hello");
  std::vector<char> opened = sealed;
  ASSERT_TRUE(Keys()->CipherOf(1)->Open(2, kHeader, absl::MakeSpan(opened)));
  EXPECT_EQ(std::string(opened.begin(), opened.begin() + 5), "hello");
  EXPECT_NE(std::string(sealed.begin(), sealed.begin() + 5), "hello");
  EXPECT_TRUE(Opens(*Keys(), 1, 2, kHeader, sealed));
}

TEST(OpenSslEnvelopeKeysTest, NothingElseOpensIt) {
  const std::vector<char> sealed = Seal(*Keys(), 1, 2, "hello");
  EXPECT_FALSE(
      Opens(*Keys("another secret of thirty-two byte"), 1, 2, kHeader, sealed));
  EXPECT_FALSE(Opens(*Keys(), 3, 2, kHeader, sealed));
  EXPECT_FALSE(Opens(*Keys(), 1, 3, kHeader, sealed));
  EXPECT_FALSE(Opens(*Keys(), 1, 2, "Header", sealed));
  EXPECT_FALSE(Opens(*Keys(), 1, 2, kHeader, {}));
  for (size_t i = 0; i < sealed.size(); ++i) {
    std::vector<char> changed = sealed;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    EXPECT_FALSE(Opens(*Keys(), 1, 2, kHeader, changed)) << i;
  }
}

TEST(OpenSslEnvelopeKeysTest, OneCipherServesManyEnvelopes) {
  const std::shared_ptr<EnvelopeKeys> keys = Keys();
  const std::unique_ptr<EnvelopeCipher> sender = keys->CipherOf(7);
  const std::unique_ptr<EnvelopeCipher> receiver = keys->CipherOf(7);
  for (uint64_t counter = 0; counter < 100; ++counter) {
    const std::string text(counter * 7, 'x');
    std::vector<char> buffer(text.begin(), text.end());
    buffer.resize(text.size() + EnvelopeCipher::kTagBytes);
    ASSERT_TRUE(
        sender->Seal(counter, kHeader, text.size(), absl::MakeSpan(buffer)));
    ASSERT_TRUE(receiver->Open(counter, kHeader, absl::MakeSpan(buffer)));
    EXPECT_EQ(std::string(buffer.data(), text.size()), text);
  }
}

// The expected bytes are of another implementation (hmac and cryptography of
// Python), so that gateways of all versions understand each other.
TEST(OpenSslEnvelopeKeysTest, TheFormatStaysAsItIs) {
  const std::vector<char> sealed = Seal(*Keys(), 1, 2, "hello");
  std::string hex;
  for (const char byte : sealed) {
    absl::StrAppend(&hex,
                    absl::Hex(static_cast<uint8_t>(byte), absl::kZeroPad2));
  }
  EXPECT_EQ(hex, "0d16795c00ebc7d46a1ae384bd91add07ca401100e");
}

TEST(OpenSslEnvelopeKeysTest, BadSecretsAreNamedAndNotShown) {
  for (const std::string& secret :
       {std::string(), std::string("topsecret"), std::string(31, 's'),
        std::string(4097, 's')}) {
    const auto keys = OpenSslEnvelopeKeys::FromSecret(secret);
    ASSERT_FALSE(keys.ok());
    EXPECT_EQ(keys.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_FALSE(absl::StrContains(keys.status().message(), "sss"));
    EXPECT_FALSE(absl::StrContains(keys.status().message(), "topsecret"));
  }
}

TEST(OpenSslEnvelopeKeysTest, ASecretFileMayEndWithALineFeed) {
  const std::string path = absl::StrCat(::testing::TempDir(), "/secret");
  EXPECT_EQ(OpenSslEnvelopeKeys::FromFile(path).status().code(),
            absl::StatusCode::kNotFound);
  std::FILE* const file = std::fopen(path.c_str(), "w");
  ASSERT_NE(file, nullptr);
  std::fprintf(file, "%s\n", kSecret);
  std::fclose(file);
  const auto keys = OpenSslEnvelopeKeys::FromFile(path);
  ASSERT_TRUE(keys.ok()) << keys.status();
  EXPECT_TRUE(Opens(**keys, 1, 2, kHeader, Seal(*Keys(), 1, 2, "hello")));
  std::remove(path.c_str());
}

}  // namespace
}  // namespace forward
}  // namespace udpgate
