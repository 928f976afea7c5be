#include "cli/system/address_table.h"

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "gtest/gtest.h"

namespace udpgate {
namespace cli {
namespace {

SocketAddress Address(absl::string_view ip) {
  return *SocketAddress::FromIpAndPort(ip, 7);
}

// Messages as the kernel writes them.
class Messages {
 public:
  struct Fields {
    int type = RTM_NEWADDR;
    uint32_t sequence = 0;
    int header_flags = 0;
    uint32_t interface_index = 2;
    int prefix_bits = 24;
    uint8_t short_flags = 0;
    std::string address;  // IFA_ADDRESS
    std::string local;    // IFA_LOCAL
    uint32_t flags = 0;   // IFA_FLAGS
  };

  Messages& Add(const Fields& fields) {
    const size_t start = bytes_.size();
    nlmsghdr header{};
    header.nlmsg_type = static_cast<uint16_t>(fields.type);
    header.nlmsg_flags = static_cast<uint16_t>(fields.header_flags);
    header.nlmsg_seq = fields.sequence;
    Append(&header, sizeof(header));
    if (fields.type == RTM_NEWADDR || fields.type == RTM_DELADDR) {
      const bool is_ipv6 =
          (fields.address + fields.local).find(':') != std::string::npos;
      ifaddrmsg message{};
      message.ifa_family = is_ipv6 ? AF_INET6 : AF_INET;
      message.ifa_prefixlen = static_cast<uint8_t>(fields.prefix_bits);
      message.ifa_flags = fields.short_flags;
      message.ifa_index = fields.interface_index;
      Append(&message, sizeof(message));
      AddIp(IFA_ADDRESS, message.ifa_family, fields.address);
      AddIp(IFA_LOCAL, message.ifa_family, fields.local);
      if (fields.flags != 0) {
        AddAttribute(IFA_FLAGS, &fields.flags, sizeof(fields.flags));
      }
    }
    header.nlmsg_len = static_cast<uint32_t>(bytes_.size() - start);
    std::memcpy(bytes_.data() + start, &header, sizeof(header));
    return *this;
  }

  const std::vector<char>& bytes() const { return bytes_; }

 private:
  void Append(const void* data, size_t size) {
    const char* const begin = static_cast<const char*>(data);
    bytes_.insert(bytes_.end(), begin, begin + size);
    bytes_.resize(NLMSG_ALIGN(bytes_.size()));
  }
  void AddAttribute(int type, const void* data, size_t size) {
    rtattr attribute{};
    attribute.rta_type = static_cast<uint16_t>(type);
    attribute.rta_len = static_cast<uint16_t>(RTA_LENGTH(size));
    Append(&attribute, sizeof(attribute));
    Append(data, size);
  }
  void AddIp(int type, int family, const std::string& ip) {
    if (ip.empty()) return;
    char value[16];
    ASSERT_EQ(inet_pton(family, ip.c_str(), value), 1) << ip;
    AddAttribute(type, value, family == AF_INET ? 4 : 16);
  }

  std::vector<char> bytes_;
};

using Fields = Messages::Fields;

// Of an address that comes or goes.
Fields Ip(const std::string& ip) {
  Fields fields;
  fields.address = ip;
  return fields;
}

class AddressTableTest : public ::testing::Test {
 protected:
  AddressTableTest() { List({}); }

  // Requests all, and answers with these.
  void List(const std::vector<Fields>& answer) {
    const uint32_t sequence = Request();
    Messages messages;
    for (Fields fields : answer) {
      fields.sequence = sequence;
      messages.Add(fields);
    }
    Apply(messages.Add(Done(sequence)));
    ASSERT_TRUE(table_.is_complete());
  }
  uint32_t Request() {
    const std::vector<char> request = table_.RequestAll();
    nlmsghdr header;
    std::memcpy(&header, request.data(), sizeof(header));
    EXPECT_EQ(header.nlmsg_type, RTM_GETADDR);
    EXPECT_EQ(header.nlmsg_len, request.size());
    return header.nlmsg_seq;
  }
  static Fields Done(uint32_t sequence) {
    Fields fields;
    fields.type = NLMSG_DONE;
    fields.sequence = sequence;
    return fields;
  }
  void Apply(const Messages& messages) { table_.Apply(messages.bytes()); }
  bool Has(absl::string_view ip) const { return table_.HasUsable(Address(ip)); }

  AddressTable table_;
};

TEST_F(AddressTableTest, AddressesComeAndGo) {
  EXPECT_FALSE(Has("10.0.0.1"));
  Apply(Messages().Add(Ip("10.0.0.1")).Add(Ip("2001:db8::1")));
  EXPECT_TRUE(Has("10.0.0.1"));
  EXPECT_TRUE(Has("2001:db8::1"));
  EXPECT_FALSE(Has("10.0.0.2"));
  Fields removed = Ip("10.0.0.1");
  removed.type = RTM_DELADDR;
  Apply(Messages().Add(removed));
  EXPECT_FALSE(Has("10.0.0.1"));
  EXPECT_TRUE(Has("2001:db8::1"));
  Apply(Messages().Add(removed));
  EXPECT_FALSE(Has("10.0.0.1"));
}

TEST_F(AddressTableTest, TheOwnAddressOfAPointToPointLinkIsTheLocalOne) {
  Fields fields = Ip("10.0.0.9");
  fields.local = "10.0.0.1";
  Apply(Messages().Add(fields));
  EXPECT_TRUE(Has("10.0.0.1"));
  EXPECT_FALSE(Has("10.0.0.9"));
}

TEST_F(AddressTableTest, AnAddressOfTwoInterfacesStaysUntilBothAreGone) {
  Fields first = Ip("10.0.0.1");
  Fields second = Ip("10.0.0.1");
  second.interface_index = 3;
  Fields narrow = Ip("10.0.0.1");
  narrow.prefix_bits = 32;
  Apply(Messages().Add(first).Add(second).Add(narrow));
  for (Fields* fields : {&first, &second, &narrow}) {
    EXPECT_TRUE(Has("10.0.0.1"));
    fields->type = RTM_DELADDR;
    Apply(Messages().Add(*fields));
  }
  EXPECT_FALSE(Has("10.0.0.1"));
}

TEST_F(AddressTableTest, ATentativeAddressIsNotUsable) {
  Fields fields = Ip("2001:db8::1");
  fields.short_flags = IFA_F_TENTATIVE;
  Apply(Messages().Add(fields));
  EXPECT_FALSE(Has("2001:db8::1"));
  fields.short_flags = 0;
  Apply(Messages().Add(fields));
  EXPECT_TRUE(Has("2001:db8::1"));
  // The attribute has more bits than the field, and wins.
  fields.flags = IFA_F_NOPREFIXROUTE | IFA_F_TENTATIVE;
  Apply(Messages().Add(fields));
  EXPECT_FALSE(Has("2001:db8::1"));
  fields.flags = IFA_F_TENTATIVE | IFA_F_OPTIMISTIC;
  Apply(Messages().Add(fields));
  EXPECT_TRUE(Has("2001:db8::1"));
  fields.flags = IFA_F_DADFAILED | IFA_F_PERMANENT;
  Apply(Messages().Add(fields));
  EXPECT_FALSE(Has("2001:db8::1"));
}

TEST_F(AddressTableTest, ANewListReplacesTheOldOneAtItsEnd) {
  List({Ip("10.0.0.1"), Ip("10.0.0.2")});
  const uint32_t sequence = Request();
  EXPECT_FALSE(table_.is_complete());
  Fields kept = Ip("10.0.0.2");
  kept.sequence = sequence;
  Apply(Messages().Add(kept));
  EXPECT_TRUE(Has("10.0.0.1"));
  Apply(Messages().Add(Done(sequence)));
  EXPECT_TRUE(table_.is_complete());
  EXPECT_FALSE(Has("10.0.0.1"));
  EXPECT_TRUE(Has("10.0.0.2"));
}

TEST_F(AddressTableTest, ChangesDuringAListCount) {
  List({});
  const uint32_t sequence = Request();
  Fields listed = Ip("10.0.0.1");
  listed.sequence = sequence;
  Fields removed = Ip("10.0.0.1");
  removed.type = RTM_DELADDR;
  Apply(Messages().Add(listed).Add(removed).Add(Ip("10.0.0.2")));
  EXPECT_TRUE(Has("10.0.0.2"));
  Apply(Messages().Add(Done(sequence)));
  EXPECT_FALSE(Has("10.0.0.1"));
  EXPECT_TRUE(Has("10.0.0.2"));
}

TEST_F(AddressTableTest, AnInterruptedOrRefusedListIsRequestedAgain) {
  List({Ip("10.0.0.1")});
  uint32_t sequence = Request();
  Fields interrupted = Done(sequence);
  interrupted.header_flags = NLM_F_DUMP_INTR;
  Apply(Messages().Add(interrupted));
  EXPECT_TRUE(table_.needs_request());
  EXPECT_TRUE(Has("10.0.0.1"));
  sequence = Request();
  EXPECT_FALSE(table_.needs_request());
  Fields refused = Done(sequence);
  refused.type = NLMSG_ERROR;
  Apply(Messages().Add(refused));
  EXPECT_TRUE(table_.needs_request());
  // The end of an earlier list is not that of this one.
  const uint32_t latest = Request();
  Apply(Messages().Add(Done(sequence)));
  EXPECT_FALSE(table_.is_complete());
  Apply(Messages().Add(Done(latest)));
  EXPECT_TRUE(table_.is_complete());
  EXPECT_FALSE(Has("10.0.0.1"));
}

TEST_F(AddressTableTest, SurvivesMessagesThatAreCutOrWrong) {
  Messages messages;
  messages.Add(Ip("10.0.0.1")).Add(Ip("2001:db8::1"));
  const std::vector<char>& bytes = messages.bytes();
  for (size_t size = 0; size <= bytes.size(); ++size) {
    // A copy of this size, so that a sanitizer sees a read beyond it.
    const std::vector<char> cut(bytes.begin(), bytes.begin() + size);
    table_.Apply(cut);
  }
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (const int value : {0, 1, 3, 0x7f, 0xff}) {
      std::vector<char> wrong = bytes;
      wrong[i] = static_cast<char>(value);
      table_.Apply(wrong);
    }
  }
  Apply(messages);
  EXPECT_TRUE(Has("10.0.0.1"));
  EXPECT_TRUE(Has("2001:db8::1"));
}

}  // namespace
}  // namespace cli
}  // namespace udpgate
