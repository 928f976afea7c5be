#include "udpgate/forward/internal/envelope.h"

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "udpgate/forward/internal/plain_cipher.h"

namespace udpgate {
namespace forward {
namespace internal {
namespace {

SocketAddress Address(absl::string_view text) {
  return *SocketAddress::Parse(text);
}

Envelope MakeEnvelope(absl::string_view payload, bool is_ipv6 = false) {
  Envelope envelope;
  envelope.kind = EnvelopeKind::kToOwner;
  envelope.traffic_class = 0xb8;
  envelope.wants_answer = is_ipv6;
  envelope.client =
      Address(is_ipv6 ? "[2001:db8::7]:54321" : "203.0.113.7:54321");
  envelope.local =
      Address(is_ipv6 ? "[2001:db8::1]:19132" : "198.51.100.1:19132");
  envelope.payload = payload;
  return envelope;
}

std::vector<char> Seal(const Envelope& envelope, uint64_t counter = 9) {
  std::vector<char> bytes(70000);
  PlainCipher cipher;
  bytes.resize(SealEnvelope(envelope, /*sent_seconds=*/1234567,
                            /*sender_id=*/0x1122334455667788, counter, &cipher,
                            absl::MakeSpan(bytes)));
  return bytes;
}

TEST(EnvelopeTest, ComesOutAsItWasPutIn) {
  for (const bool is_ipv6 : {false, true}) {
    for (const size_t size :
         {size_t{0}, size_t{1}, size_t{1200}, size_t{65527}}) {
      const std::string payload(size, 'x');
      const Envelope envelope = MakeEnvelope(payload, is_ipv6);
      std::vector<char> bytes = Seal(envelope);
      ASSERT_EQ(bytes.size(), size + (is_ipv6 ? 76 : 52));
      const auto header = ReadHeader(bytes);
      ASSERT_TRUE(header.has_value());
      EXPECT_EQ(header->sent_seconds, 1234567u);
      EXPECT_EQ(header->sender_id, 0x1122334455667788u);
      EXPECT_EQ(header->counter, 9u);
      PlainCipher cipher;
      const auto opened = OpenEnvelope(*header, &cipher, absl::MakeSpan(bytes));
      ASSERT_TRUE(opened.has_value());
      EXPECT_EQ(opened->kind, EnvelopeKind::kToOwner);
      EXPECT_EQ(opened->traffic_class, 0xb8);
      EXPECT_EQ(opened->wants_answer, is_ipv6);
      EXPECT_EQ(opened->client, envelope.client);
      EXPECT_EQ(opened->local, envelope.local);
      EXPECT_EQ(std::string(opened->payload.begin(), opened->payload.end()),
                payload);
    }
  }
}

TEST(EnvelopeTest, AnyChangedByteIsNoticed) {
  const std::vector<char> bytes = Seal(MakeEnvelope("hello"));
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::vector<char> changed = bytes;
      changed[i] = static_cast<char>(changed[i] ^ (1 << bit));
      const auto header = ReadHeader(changed);
      if (!header.has_value()) continue;
      PlainCipher cipher;
      EXPECT_FALSE(
          OpenEnvelope(*header, &cipher, absl::MakeSpan(changed)).has_value())
          << i;
    }
  }
}

TEST(EnvelopeTest, WhatIsCutIsNoEnvelope) {
  for (const bool is_ipv6 : {false, true}) {
    const std::vector<char> bytes = Seal(MakeEnvelope("", is_ipv6));
    for (size_t size = 0; size < bytes.size(); ++size) {
      EXPECT_FALSE(ReadHeader({bytes.data(), size}).has_value()) << size;
    }
  }
}

TEST(EnvelopeTest, HeadersThatCannotBeAreRejected) {
  const std::vector<char> bytes = Seal(MakeEnvelope("hello"));
  for (const auto& [index, value] :
       {std::make_pair(0, 0x21),  // version 2
        std::make_pair(0, 0x10),  // kind 0
        std::make_pair(0, 0x15),  // kind 5
        std::make_pair(1, 2),     // family
        std::make_pair(3, 2)}) {  // neither 0 nor 1
    std::vector<char> changed = bytes;
    changed[static_cast<size_t>(index)] = static_cast<char>(value);
    EXPECT_FALSE(ReadHeader(changed).has_value()) << index;
  }
}

TEST(EnvelopeTest, AddressesThatCannotBeExpressedAreNotSealed) {
  std::vector<Envelope> envelopes(6, MakeEnvelope("x"));
  envelopes[0].client = SocketAddress();
  envelopes[1].client = Address("203.0.113.7:0");
  envelopes[2].client = Address("224.0.0.1:5");
  envelopes[3].local = Address("[2001:db8::1]:19132");
  envelopes[4].local = Address("0.0.0.0:19132");
  envelopes[5].client = Address("[fe80::1%1]:5");
  envelopes[5].local = Address("[fe80::2%1]:5");
  for (const Envelope& envelope : envelopes) {
    EXPECT_FALSE(CanExpress(envelope));
    EXPECT_TRUE(Seal(envelope).empty());
  }
}

// By somebody who has the key.
TEST(EnvelopeTest, SealedContentThatCannotBeIsRejected) {
  PlainCipher seal;
  const auto is_opened = [&](std::vector<char> bytes) {
    const auto header = ReadHeader(bytes);
    if (!header.has_value()) return false;
    const size_t text_bytes = bytes.size() - EnvelopeHeader::kBytes - 16;
    seal.Seal(header->counter,
              absl::MakeSpan(bytes).first(EnvelopeHeader::kBytes), text_bytes,
              absl::MakeSpan(bytes).subspan(EnvelopeHeader::kBytes));
    return OpenEnvelope(*header, &seal, absl::MakeSpan(bytes)).has_value();
  };
  const std::vector<char> good = Seal(MakeEnvelope("hello"));
  EXPECT_TRUE(is_opened(good));
  std::vector<char> no_port = good;
  no_port[24] = no_port[25] = 0;
  EXPECT_FALSE(is_opened(no_port));
  std::vector<char> multicast = good;
  multicast[26] = static_cast<char>(224);
  EXPECT_FALSE(is_opened(multicast));
  std::vector<char> content = good;
  content[0] = 0x13;  // no session, and a payload
  EXPECT_FALSE(is_opened(content));
  content[0] = 0x14;  // a session, and a payload
  EXPECT_FALSE(is_opened(content));
  content[0] = 0x12;  // a reply
  EXPECT_TRUE(is_opened(content));
  content[3] = 1;  // that wants an answer
  EXPECT_FALSE(is_opened(content));
  // ::ffff:1.2.3.4 is an address of IPv4.
  std::vector<char> mapped = Seal(MakeEnvelope("", /*is_ipv6=*/true));
  for (size_t i = 26; i < 42; ++i) mapped[i] = i < 36 ? 0 : i < 38 ? -1 : 1;
  EXPECT_FALSE(is_opened(mapped));
}

TEST(EnvelopeTest, NothingIsWrittenWithoutRoom) {
  const Envelope envelope = MakeEnvelope("hello");
  PlainCipher cipher;
  std::vector<char> bytes(EnvelopeOverhead(false) + 4);
  EXPECT_EQ(SealEnvelope(envelope, 0, 1, 2, &cipher, absl::MakeSpan(bytes)),
            0u);
}

}  // namespace
}  // namespace internal
}  // namespace forward
}  // namespace udpgate
