#include "udpgate/http/proxy_header.h"

#include <cstddef>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace http {

void PrintTo(ProxyHeader::State state, std::ostream* out) {
  constexpr const char* kNames[] = {"incomplete", "none", "complete",
                                    "refused"};
  *out << kNames[static_cast<int>(state)];
}

namespace {

using ::testing::HasSubstr;
using State = ProxyHeader::State;

SocketAddress Address(absl::string_view text) {
  return SocketAddress::Parse(text).value();
}

// A header of version 2 with this fourth byte and this body.
std::string Version2(char command, char family, absl::string_view body) {
  std::string bytes("\r\n\r\n\0\r\nQUIT\n", 12);
  bytes.push_back(command);
  bytes.push_back(family);
  bytes.push_back(static_cast<char>(body.size() >> 8));
  bytes.push_back(static_cast<char>(body.size() & 0xff));
  return absl::StrCat(bytes, body);
}

std::string Addresses4() {
  return std::string("\xcb\x00\x71\x07\x0a\x00\x00\x01\xd4\x31\x4a\xbc", 12);
}

// Every beginning is incomplete, and what follows the header does not matter.
void ExpectComplete(const std::string& bytes, const SocketAddress& source,
                    const SocketAddress& destination) {
  SCOPED_TRACE(bytes);
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_EQ(ProxyHeader::Parse(bytes.substr(0, size)).state,
              State::kIncomplete)
        << size;
  }
  for (const char* rest : {"", "G", "GET / HTTP/1.1\r\n\r\n", "\r\n", "\x16"}) {
    const ProxyHeader header = ProxyHeader::Parse(bytes + rest);
    EXPECT_EQ(header.state, State::kComplete) << header.error;
    EXPECT_EQ(header.source, source);
    EXPECT_EQ(header.destination, destination);
    EXPECT_EQ(header.size, bytes.size());
  }
}

void ExpectRefused(const std::string& bytes, absl::string_view error) {
  SCOPED_TRACE(bytes);
  const ProxyHeader header = ProxyHeader::Parse(bytes);
  EXPECT_EQ(header.state, State::kRefused);
  EXPECT_THAT(std::string(header.error), HasSubstr(std::string(error)));
  EXPECT_FALSE(header.source.is_valid());
  EXPECT_EQ(header.size, 0u);
}

TEST(ProxyHeaderTest, ReadsVersion1) {
  ExpectComplete("PROXY TCP4 203.0.113.7 10.0.0.1 54321 19132\r\n",
                 Address("203.0.113.7:54321"), Address("10.0.0.1:19132"));
  ExpectComplete("PROXY TCP6 2001:db8::7 2001:db8::1 0 65535\r\n",
                 Address("[2001:db8::7]:0"), Address("[2001:db8::1]:65535"));
  ExpectComplete("PROXY TCP6 ::ffff:203.0.113.7 ::ffff:10.0.0.1 1 2\r\n",
                 Address("203.0.113.7:1"), Address("10.0.0.1:2"));
}

TEST(ProxyHeaderTest, UnknownOfVersion1HasNoAddresses) {
  ExpectComplete("PROXY UNKNOWN\r\n", SocketAddress(), SocketAddress());
  ExpectComplete("PROXY UNKNOWN what ever 99999\r\n", SocketAddress(),
                 SocketAddress());
}

TEST(ProxyHeaderTest, TheLongestLineOfVersion1Has107Bytes) {
  const std::string longest =
      absl::StrCat("PROXY UNKNOWN ", std::string(91, 'x'), "\r\n");
  ASSERT_EQ(longest.size(), 107u);
  ExpectComplete(longest, SocketAddress(), SocketAddress());
  for (const int size : {92, 93, 94, 1000}) {
    ExpectRefused(
        absl::StrCat("PROXY UNKNOWN ", std::string(size, 'x'), "\r\n"),
        "without line end in 107 bytes");
  }
  // The decision needs no further byte.
  EXPECT_EQ(
      ProxyHeader::Parse(absl::StrCat("PROXY ", std::string(100, 'x'))).state,
      State::kIncomplete);
  EXPECT_EQ(
      ProxyHeader::Parse(absl::StrCat("PROXY ", std::string(101, 'x'))).state,
      State::kRefused);
}

TEST(ProxyHeaderTest, ALineOfVersion1EndsWithCrAndLf) {
  const std::string line = "PROXY TCP4 203.0.113.7 10.0.0.1 54321 19132";
  for (const char* end : {"\n", "\rG", "\r\r\n", "\n\r"}) {
    ExpectRefused(line + end, "must end with CR and LF");
  }
  ExpectRefused("PROXY TCP4 203.0.113.7\r10.0.0.1 54321 19132\r\n",
                "must end with CR and LF");
  ExpectRefused("PROXY \n", "must end with CR and LF");
}

TEST(ProxyHeaderTest, MalformedLinesOfVersion1AreRefused) {
  for (const char* line :
       {"", "TCP4", "TCP4 1.2.3.4 1.2.3.5 1", "TCP4 1.2.3.4 1.2.3.5 1 2 3",
        "TCP4 1.2.3.4 1.2.3.5 1 2 ", "TCP4  1.2.3.4 1.2.3.5 1 2",
        "TCP4\t1.2.3.4\t1.2.3.5\t1\t2", " TCP4 1.2.3.4 1.2.3.5 1 2",
        "UDP4 1.2.3.4 1.2.3.5 1 2", "UNKNOWNX", "tcp4 1.2.3.4 1.2.3.5 1 2"}) {
    ExpectRefused(absl::StrCat("PROXY ", line, "\r\n"), "PROXY header: ");
  }
  for (const char* ports :
       {"65536 1", "1 65536", "01 1", "1 00", "+1 1", "1 -1", "0x1 1", "1 1e1",
        "99999999999999999999 1", " 1", "1 "}) {
    ExpectRefused(absl::StrCat("PROXY TCP4 1.2.3.4 1.2.3.5 ", ports, "\r\n"),
                  "a port must be a number");
  }
  for (const char* ip : {"1.2.3", "1.2.3.256", "01.2.3.4", "::1", "localhost",
                         "", "0.0.0.0", "224.0.0.1", "255.255.255.255"}) {
    ExpectRefused(absl::StrCat("PROXY TCP4 ", ip, " 1.2.3.5 1 2\r\n"),
                  "the source is not the address of a host");
    ExpectRefused(absl::StrCat("PROXY TCP4 1.2.3.5 ", ip, " 1 2\r\n"),
                  "the destination is not the address of a host");
  }
  for (const char* ip : {"1.2.3.4", "fe80::1%1", "fe80::1%lo", "::", "ff02::1",
                         "[2001:db8::1]", "2001:db8"}) {
    ExpectRefused(absl::StrCat("PROXY TCP6 ", ip, " 2001:db8::1 1 2\r\n"),
                  "the source is not the address of a host");
  }
}

TEST(ProxyHeaderTest, ReadsVersion2) {
  ExpectComplete(Version2('\x21', '\x11', Addresses4()),
                 Address("203.0.113.7:54321"), Address("10.0.0.1:19132"));
  std::string addresses;
  for (const char last : {'\x07', '\x01'}) {
    addresses.append("\x20\x01\x0d\xb8", 4).append(11, '\0').push_back(last);
  }
  addresses.append("\xd4\x31\x4a\xbc", 4);
  ExpectComplete(Version2('\x21', '\x21', addresses),
                 Address("[2001:db8::7]:54321"),
                 Address("[2001:db8::1]:19132"));
}

TEST(ProxyHeaderTest, LocalAndUnspecifiedOfVersion2HaveNoAddresses) {
  ExpectComplete(Version2('\x20', '\x00', ""), SocketAddress(),
                 SocketAddress());
  // The family of LOCAL is to be ignored, and what follows skipped.
  ExpectComplete(Version2('\x20', '\x11', Addresses4()), SocketAddress(),
                 SocketAddress());
  ExpectComplete(Version2('\x20', '\x7f', "abc"), SocketAddress(),
                 SocketAddress());
  ExpectComplete(Version2('\x21', '\x00', "abc"), SocketAddress(),
                 SocketAddress());
}

TEST(ProxyHeaderTest, AdditionalFieldsOfVersion2AreSkippedUpToALimit) {
  const size_t room = ProxyHeader::kVersion2BytesMax - 16 - Addresses4().size();
  ExpectComplete(Version2('\x21', '\x11',
                          Addresses4() + std::string("\x04\x00\x03"
                                                     "abc",
                                                     6)),
                 Address("203.0.113.7:54321"), Address("10.0.0.1:19132"));
  ExpectComplete(
      Version2('\x21', '\x11', Addresses4() + std::string(room, 'x')),
      Address("203.0.113.7:54321"), Address("10.0.0.1:19132"));
  const std::string above =
      Version2('\x21', '\x11', Addresses4() + std::string(room + 1, 'x'));
  ExpectRefused(above, "exceeds 4096 bytes");
  // As soon as its length is there.
  ExpectRefused(above.substr(0, 16), "exceeds 4096 bytes");
}

TEST(ProxyHeaderTest, MalformedHeadersOfVersion2AreRefused) {
  for (const char command :
       {'\x00', '\x01', '\x10', '\x11', '\x22', '\x2f', '\x31', '\xff'}) {
    const std::string bytes = Version2(command, '\x11', Addresses4());
    ExpectRefused(bytes, "unknown version or command");
    ExpectRefused(bytes.substr(0, 13), "unknown version or command");
  }
  for (const char family : {'\x01', '\x10', '\x12', '\x13', '\x20', '\x22',
                            '\x31', '\x32', '\x41', '\xff'}) {
    ExpectRefused(Version2('\x21', family, std::string(216, 'x')),
                  "another family");
  }
  for (size_t size = 0; size < 36; ++size) {
    if (size < 12) {
      ExpectRefused(Version2('\x21', '\x11', std::string(size, 'x')),
                    "too short for IPv4");
    }
    ExpectRefused(Version2('\x21', '\x21', std::string(size, 'x')),
                  "too short for IPv6");
  }
  ExpectRefused(Version2('\x21', '\x11', std::string(12, '\0')),
                "the source is not the address of a host");
  ExpectRefused(Version2('\x21', '\x11', std::string(12, '\xff')),
                "the source is not the address of a host");
  ExpectRefused(
      Version2('\x21', '\x11',
               std::string("\xcb\x00\x71\x07", 4) + std::string(8, '\0')),
      "the destination is not the address of a host");
}

TEST(ProxyHeaderTest, AnotherBeginningIsNoHeader) {
  for (const absl::string_view bytes :
       {absl::string_view("G"), absl::string_view("GET / HTTP/1.1\r\n"),
        absl::string_view("PROPFIND / HTTP/1.1\r\n"),
        absl::string_view("PROXY\t"), absl::string_view("PROXY\r\n"),
        absl::string_view("proxy TCP4"), absl::string_view("\x16\x03\x01"),
        absl::string_view("\r\nGET / HTTP/1.1\r\n"), absl::string_view("\n"),
        absl::string_view("\0", 1),
        absl::string_view("\r\n\r\n\0\r\nQUIT\r", 12)}) {
    EXPECT_EQ(ProxyHeader::Parse(bytes).state, State::kNone) << bytes;
  }
  for (const char* bytes : {"", "P", "PRO", "PROXY", "\r", "\r\n\r\n"}) {
    EXPECT_EQ(ProxyHeader::Parse(bytes).state, State::kIncomplete) << bytes;
  }
}

TEST(ProxyHeaderTest, WritesVersion1) {
  EXPECT_EQ(ProxyHeader::WriteV1(Address("203.0.113.7:54321"),
                                 Address("10.0.0.1:19132")),
            "PROXY TCP4 203.0.113.7 10.0.0.1 54321 19132\r\n");
  EXPECT_EQ(ProxyHeader::WriteV1(Address("[2001:db8::7]:1"),
                                 Address("[2001:db8::1]:2")),
            "PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n");
  EXPECT_EQ(ProxyHeader::WriteV1(Address("203.0.113.7:1"),
                                 Address("[2001:db8::1]:2")),
            "PROXY TCP6 ::ffff:203.0.113.7 2001:db8::1 1 2\r\n");
  EXPECT_EQ(
      ProxyHeader::WriteV1(Address("[fe80::7%1]:1"), Address("[fe80::1%1]:2")),
      "PROXY TCP6 fe80::7 fe80::1 1 2\r\n");
  EXPECT_EQ(ProxyHeader::WriteV1(SocketAddress(), Address("1.2.3.4:5")),
            "PROXY UNKNOWN\r\n");
}

TEST(ProxyHeaderTest, WritesVersion2) {
  EXPECT_EQ(ProxyHeader::WriteV2(Address("203.0.113.7:54321"),
                                 Address("10.0.0.1:19132")),
            Version2('\x21', '\x11', Addresses4()));
  EXPECT_EQ(ProxyHeader::WriteV2(Address("1.2.3.4:5"), SocketAddress()),
            Version2('\x21', '\x00', ""));
}

TEST(ProxyHeaderTest, ReadsWhatItWrites) {
  const std::vector<std::pair<SocketAddress, SocketAddress>> pairs = {
      {Address("203.0.113.7:54321"), Address("10.0.0.1:19132")},
      {Address("[2001:db8::7]:0"), Address("[::1]:65535")},
      {Address("203.0.113.7:1"), Address("[2001:db8::1]:2")},
      {Address("[2001:db8::1]:2"), Address("203.0.113.7:1")},
      {SocketAddress(), SocketAddress()}};
  for (const auto& [source, destination] : pairs) {
    ExpectComplete(ProxyHeader::WriteV1(source, destination), source,
                   destination);
    ExpectComplete(ProxyHeader::WriteV2(source, destination), source,
                   destination);
  }
}

}  // namespace
}  // namespace http
}  // namespace udpgate
