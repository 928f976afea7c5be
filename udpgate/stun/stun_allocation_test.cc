// An attacker decides how many requests are parsed and verified, so that must
// not allocate memory: with `new`, or with malloc(3) inside OpenSSL.
#include <cstddef>
#include <cstdint>
#include <string>

#include "gtest/gtest.h"
#include "testing/internal/support/malloc_count.h"
#include "udpgate/stun/binding_request.h"
#include "udpgate/stun/request_builder.h"

namespace udpgate {
namespace stun {
namespace {

TEST(StunAllocationTest, ParsesAndVerifiesWithoutAllocating) {
  BindingRequestOptions options;
  options.username = "answer:offer";
  options.password = "0123456789abcdefghijkl";
  options.has_integrity_sha256 = true;
  const std::string datagram = BuildBindingRequest(options);
  const int64_t before = test::MallocCount();
  ASSERT_GT(before, 0);  // those of the lines above are counted
  bool is_right = false;
  bool is_wrong = true;
  for (int i = 0; i < 100; ++i) {
    const auto request = ParseBindingRequest(datagram);
    is_right = VerifyIntegrity(datagram, *request, options.password);
    is_wrong = VerifyIntegrity(datagram, *request, "wrong");
  }
  EXPECT_EQ(test::MallocCount(), before);
  EXPECT_TRUE(is_right);
  EXPECT_FALSE(is_wrong);
}

}  // namespace
}  // namespace stun
}  // namespace udpgate
