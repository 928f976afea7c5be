// An envelope is sealed and opened without memory from malloc(3).
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "testing/internal/support/malloc_count.h"
#include "udpgate/forward/openssl_envelope_keys.h"

namespace udpgate {
namespace forward {
namespace {

TEST(OpenSslAllocationTest, SealsAndOpensWithoutAllocating) {
  const auto keys =
      OpenSslEnvelopeKeys::FromSecret("a secret of all gateways of a fleet");
  ASSERT_TRUE(keys.ok()) << keys.status();
  const std::unique_ptr<EnvelopeCipher> sender = (*keys)->CipherOf(1);
  const std::unique_ptr<EnvelopeCipher> receiver = (*keys)->CipherOf(1);
  std::vector<char> buffer(1200 + EnvelopeCipher::kTagBytes, 'x');
  const absl::string_view header = "header";
  int64_t before = 0;
  int opened_count = 0;
  int forged_count = 0;
  for (uint64_t counter = 0; counter < 200; ++counter) {
    if (counter == 100) before = test::MallocCount();  // what is set up once is
    if (sender->Seal(counter, header, 1200, absl::MakeSpan(buffer)) &&
        receiver->Open(counter, header, absl::MakeSpan(buffer))) {
      ++opened_count;
    }
    if (!receiver->Open(counter, header, absl::MakeSpan(buffer))) {
      ++forged_count;
    }
  }
  EXPECT_GT(before, 0);
  EXPECT_EQ(test::MallocCount(), before);
  EXPECT_EQ(opened_count, 200);
  EXPECT_EQ(forged_count, 200);
}

}  // namespace
}  // namespace forward
}  // namespace udpgate
