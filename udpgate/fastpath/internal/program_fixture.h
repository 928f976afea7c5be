// Fixture for tests of the eBPF program and the flow table: a loaded program
// with kSessions installed sessions, attached to no interface.
#ifndef UDPGATE_FASTPATH_INTERNAL_PROGRAM_FIXTURE_H_
#define UDPGATE_FASTPATH_INTERNAL_PROGRAM_FIXTURE_H_

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "udpgate/fastpath/internal/flow_table.h"
#include "udpgate/fastpath/internal/packet_model.h"
#include "udpgate/fastpath/internal/program.h"
#include "udpgate/fastpath/kernel_rights.h"
#include "udpgate/flow_offload.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace fastpath {
namespace internal {

// Session number `number` of the tests. Even ones use IPv4.
inline SessionAddresses SessionNumber(uint32_t number) {
  const bool is_ipv4 = number % 2 == 0;
  const auto ip = [&](int host) {
    return is_ipv4 ? absl::StrCat("10.", number, ".0.", host)
                   : absl::StrCat("fd00:", number, "::", host);
  };
  const auto port = static_cast<uint16_t>(40000 + number);
  return {*SocketAddress::FromIpAndPort(ip(2), port),
          *SocketAddress::FromIpAndPort(ip(1), 19132),
          *SocketAddress::FromIpAndPort(ip(101), port),
          *SocketAddress::FromIpAndPort(ip(102), 19133)};
}

class ProgramTest : public ::testing::Test {
 protected:
  explicit ProgramTest(const udpgate_rewriting& rewriting = {})
      : rewriting_(rewriting) {}

  void SetUp() override {
    absl::StatusOr<std::unique_ptr<Program>> program =
        Program::Load(kSessions, /*verifier_log=*/nullptr, rewriting_);
    UDPGATE_NEEDS_RIGHTS(program.status());
    program_ = *std::move(program);
    table_ = std::make_unique<FlowTable>(program_.get(), kSessions);
    for (uint32_t number = 0; number < kSessions; ++number) {
      Exit exit;
      exit.packet_bytes_max = kMtuBytes;
      // The last two sessions stay on lo.
      exit.is_loopback = number >= kSessions - 2;
      exit.interface_index = exit.is_loopback ? kLoopbackIndex : kOtherIndex;
      // Without a next hop, with one of IPv4, and with one of IPv6.
      if (number >= 2) exit.next_hop.family = number == 4 ? AF_INET : AF_INET6;
      ASSERT_EQ(table_->Take(SessionNumber(number)), number);
      ASSERT_EQ(NextRequest(), absl::StrCat("add ", number));
      ASSERT_TRUE(table_->Add(number, exit, exit).ok());
    }
  }

  // Such as "add 3"; empty if there is no request.
  std::string NextRequest() {
    const absl::optional<FlowTable::Request> request = table_->NextRequest();
    if (!request.has_value()) return "";
    return absl::StrCat(request->is_given_back ? "clear " : "add ",
                        request->slot);
  }

  const udpgate_rewriting rewriting_;
  std::unique_ptr<Program> program_;
  std::unique_ptr<FlowTable> table_;
};

}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate

#endif  // UDPGATE_FASTPATH_INTERNAL_PROGRAM_FIXTURE_H_
