#include "udpgate/stun/binding_request.h"

#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "udpgate/stun/request_builder.h"

namespace udpgate {
namespace stun {
namespace {

// RFC 5769 section 2.1.
constexpr char kSamplePassword[] = "VOkJxbRl1RmTxUk/WvJxBt";
std::string SampleRequest() {
  return absl::HexStringToBytes(
      "000100582112a442b7e7a701bc34d686fa87dfae"
      "802200105354554e207465737420636c69656e74"  // SOFTWARE
      "002400046e0001ff"                          // PRIORITY
      "80290008932ff9b151263b36"                  // ICE-CONTROLLED
      "000600096576746a3a68367659202020"          // USERNAME
      "000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2"
      "80280004e57a3bcf");
}

// RFC 8489 appendix B.1, with erratum 6268.
std::string SampleRequestSha256() {
  return absl::HexStringToBytes(
      "000100902112a44278ad3433c6ad72c029da412e"
      "001e00204a3cf38fef6992bda952c6780417da0f"  // USERHASH
      "24819415569e60b205c46e41407f1704"
      "001500296f624d61744a6f733241414143662f2f"  // NONCE
      "3439396b39353464364f4c33346f4c3946535476"
      "79363473410000000014000b6578616d706c652e"  // REALM
      "6f726700001d000400020000"                  // PASSWORD-ALGORITHM
      "001c0020b5c7bf005b6c52a21c51c5e892f81924"
      "136296cb927c43149309278cc6518e65");
}
// SHA-256 of user name, realm and password (section 9.2.2).
std::string SampleKeySha256() {
  return absl::HexStringToBytes(
      "dd295a613b9058c3c23d6dc7165bda072304d989c9d0af3a8c7e184b4f9bb4a1");
}

BindingRequestOptions Options() {
  BindingRequestOptions options;
  options.username = "answer:offer";
  options.password = "0123456789abcdefghijkl";
  return options;
}

bool IsRight(const std::string& datagram, const std::string& password) {
  const absl::optional<BindingRequest> request = ParseBindingRequest(datagram);
  return request.has_value() && VerifyIntegrity(datagram, *request, password);
}

TEST(BindingRequestTest, ReadsTheSampleOfRfc5769) {
  const std::string datagram = SampleRequest();
  const absl::optional<BindingRequest> request = ParseBindingRequest(datagram);
  ASSERT_TRUE(request.has_value());
  EXPECT_EQ(request->username, "evtj:h6vY");
  EXPECT_EQ(request->local_ufrag, "evtj");
  EXPECT_EQ(request->remote_ufrag, "h6vY");
  EXPECT_EQ(request->priority, 0x6e0001ffu);
  EXPECT_TRUE(request->has_integrity_sha1);
  EXPECT_FALSE(request->has_integrity_sha256);
  EXPECT_TRUE(request->has_fingerprint);
  EXPECT_TRUE(VerifyIntegrity(datagram, *request, kSamplePassword));
  EXPECT_FALSE(VerifyIntegrity(datagram, *request, ""));
  EXPECT_FALSE(VerifyIntegrity(datagram, *request, "VOkJxbRl1RmTxUk/WvJxBT"));
}

TEST(BindingRequestTest, VerifiesTheSampleOfRfc8489) {
  const std::string datagram = SampleRequestSha256();
  const absl::optional<BindingRequest> request = ParseBindingRequest(datagram);
  ASSERT_TRUE(request.has_value());
  EXPECT_EQ(request->username, "");
  EXPECT_FALSE(request->has_integrity_sha1);
  EXPECT_TRUE(request->has_integrity_sha256);
  EXPECT_FALSE(request->has_fingerprint);
  EXPECT_TRUE(VerifyIntegrity(datagram, *request, SampleKeySha256()));
  EXPECT_FALSE(VerifyIntegrity(datagram, *request, kSamplePassword));
}

TEST(BindingRequestTest, RefusesTheIntegrityOfEachChangedByte) {
  const std::string sample = SampleRequest();
  const size_t protected_end = sample.size() - 8;  // FINGERPRINT follows
  for (size_t i = 0; i < protected_end; ++i) {
    std::string changed = sample.substr(0, protected_end);
    changed[3] = static_cast<char>(protected_end - 20);
    EXPECT_TRUE(IsRight(changed, kSamplePassword));
    changed[i] = static_cast<char>(changed[i] ^ 1);
    EXPECT_FALSE(IsRight(changed, kSamplePassword)) << i;
  }
}

TEST(BindingRequestTest, ReadsBothIntegritiesAndAsksForBothToBeRight) {
  BindingRequestOptions options = Options();
  options.has_integrity_sha256 = true;
  const std::string datagram = BuildBindingRequest(options);
  const absl::optional<BindingRequest> request = ParseBindingRequest(datagram);
  ASSERT_TRUE(request.has_value());
  EXPECT_TRUE(request->has_integrity_sha1);
  EXPECT_TRUE(request->has_integrity_sha256);
  EXPECT_TRUE(VerifyIntegrity(datagram, *request, options.password));
  for (const size_t offset :
       {request->integrity_sha1_offset, request->integrity_sha256_offset}) {
    std::string changed = datagram.substr(0, datagram.size() - 8);
    changed[3] = static_cast<char>(changed.size() - 20);
    changed[offset + 4] = static_cast<char>(changed[offset + 4] ^ 0x80);
    EXPECT_TRUE(ParseBindingRequest(changed).has_value());
    EXPECT_FALSE(IsRight(changed, options.password));
  }
}

TEST(BindingRequestTest, VerifiesTruncatedSha256) {
  BindingRequestOptions options = Options();
  options.has_integrity_sha1 = false;
  options.has_integrity_sha256 = true;
  for (const size_t bytes : {16u, 20u, 24u, 28u, 32u}) {
    options.integrity_sha256_bytes = bytes;
    const std::string datagram = BuildBindingRequest(options);
    EXPECT_TRUE(IsRight(datagram, options.password)) << bytes;
    EXPECT_FALSE(IsRight(datagram, "another")) << bytes;
  }
  for (const size_t bytes : {0u, 4u, 12u, 17u, 30u}) {
    options.integrity_sha256_bytes = bytes;
    EXPECT_FALSE(ParseBindingRequest(BuildBindingRequest(options)).has_value())
        << bytes;
  }
}

TEST(BindingRequestTest, IsNeverRightWithoutIntegrity) {
  BindingRequestOptions options = Options();
  options.has_integrity_sha1 = false;
  const std::string datagram = BuildBindingRequest(options);
  EXPECT_TRUE(ParseBindingRequest(datagram).has_value());
  EXPECT_FALSE(IsRight(datagram, options.password));
}

TEST(BindingRequestTest, TakesPasswordsOfAnyLength) {
  for (const size_t size : {0u, 22u, 63u, 64u, 65u, 256u}) {
    BindingRequestOptions options = Options();
    options.password = std::string(size, 'p');
    const std::string datagram = BuildBindingRequest(options);
    EXPECT_TRUE(IsRight(datagram, options.password)) << size;
    EXPECT_FALSE(IsRight(datagram, options.password + "p")) << size;
  }
}

TEST(BindingRequestTest, SplitsTheUserNameAtTheFirstColon) {
  BindingRequestOptions options = Options();
  options.username = "a:b:c";
  std::string datagram = BuildBindingRequest(options);
  EXPECT_EQ(ParseBindingRequest(datagram)->local_ufrag, "a");
  EXPECT_EQ(ParseBindingRequest(datagram)->remote_ufrag, "b:c");
  options.username = "without";
  datagram = BuildBindingRequest(options);
  EXPECT_EQ(ParseBindingRequest(datagram)->username, "without");
  EXPECT_EQ(ParseBindingRequest(datagram)->local_ufrag, "");
}

TEST(BindingRequestTest, KnowsStunAndDtlsByTheirFirstBytes) {
  const std::string stun = SampleRequest();
  EXPECT_TRUE(IsStun(stun));
  EXPECT_TRUE(IsBindingRequest(stun));
  EXPECT_FALSE(IsDtls(stun));
  std::string response = stun;
  response[0] = 1;
  EXPECT_TRUE(IsStun(response));
  EXPECT_FALSE(IsBindingRequest(response));
  EXPECT_TRUE(IsBindingReply(response));
  EXPECT_FALSE(IsBindingReply(stun));
  response[1] = 0x11;
  EXPECT_TRUE(IsBindingReply(response));
  response[0] = 0;
  EXPECT_TRUE(IsBindingReply(response));
  response[1] = 3;  // Allocate, a method of TURN
  EXPECT_FALSE(IsBindingReply(response));
  EXPECT_FALSE(ParseBindingRequest(response).has_value());
  std::string without_cookie = stun;
  without_cookie[7] = 0x43;
  EXPECT_FALSE(IsStun(without_cookie));
  EXPECT_FALSE(IsStun(""));
  EXPECT_FALSE(IsStun(stun.substr(0, 7)));
  EXPECT_TRUE(IsBindingRequest(stun.substr(0, 8)));
  std::string high_bits = stun;
  high_bits[0] = static_cast<char>(0x80);
  EXPECT_FALSE(IsStun(high_bits));
  for (int first = 0; first < 256; ++first) {
    EXPECT_EQ(IsDtls(std::string(1, static_cast<char>(first))),
              first >= 20 && first <= 63)
        << first;
  }
  EXPECT_FALSE(IsDtls(""));
}

}  // namespace
}  // namespace stun
}  // namespace udpgate
