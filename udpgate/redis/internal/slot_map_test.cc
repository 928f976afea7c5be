#include "udpgate/redis/internal/slot_map.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "udpgate/redis/internal/reply_reader.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

constexpr char kReplier[] = "10.0.0.9:6379";

std::string Bulk(const std::string& text) {
  return absl::StrCat("$", text.size(), "\r\n", text, "\r\n");
}

std::string Node(const std::string& host, int port) {
  return absl::StrCat("*3\r\n", Bulk(host), ":", port, "\r\n", Bulk("id"));
}

std::string Range(int first, int last, const std::string& node) {
  return absl::StrCat("*3\r\n:", first, "\r\n:", last, "\r\n", node);
}

class SlotMapTest : public ::testing::Test {
 protected:
  absl::StatusOr<SlotMap> Read(const std::string& bytes) {
    ReplyReader reader(SlotMap::ReplyLimits());
    EXPECT_TRUE(reader.Feed(bytes).ok()) << bytes;
    const auto reply = reader.Next();
    if (!reply.ok() || *reply == nullptr) {
      ADD_FAILURE() << "no reply: " << bytes;
      return absl::UnknownError("no reply");
    }
    problem_.clear();
    return SlotMap::Read(**reply, kReplier, &problem_);
  }
  void ExpectMalformed(const std::string& bytes, const std::string& reason) {
    const absl::StatusOr<SlotMap> map = Read(bytes);
    ASSERT_FALSE(map.ok()) << bytes;
    EXPECT_EQ(map.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(map.status().message().find(reason), absl::string_view::npos)
        << map.status();
  }

  std::string problem_;
};

TEST_F(SlotMapTest, KnowsMastersAndReplicas) {
  const auto map = Read(
      "*2\r\n"
      "*4\r\n:0\r\n:5000\r\n"
      "*3\r\n$8\r\n10.0.0.1\r\n:6379\r\n$1\r\na\r\n"
      "*4\r\n$8\r\n10.0.0.2\r\n:6380\r\n$1\r\nb\r\n"
      // Since Redis 7: more about the node.
      "*2\r\n$8\r\nhostname\r\n$4\r\nhost\r\n"
      "*3\r\n:5001\r\n:16382\r\n*2\r\n$3\r\n::1\r\n:6379\r\n");
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_EQ(map->OwnerOf(0), "10.0.0.1:6379");
  EXPECT_EQ(map->OwnerOf(5000), "10.0.0.1:6379");
  EXPECT_EQ(map->OwnerOf(5001), "[::1]:6379");
  EXPECT_EQ(map->OwnerOf(16383), "");
  EXPECT_EQ(map->CountCovered(), 16383);
  EXPECT_EQ(map->CountMasters(), 2u);
  EXPECT_EQ(map->nodes().size(), 3u);
  EXPECT_TRUE(map->HasNode("10.0.0.2:6380"));
  EXPECT_EQ(problem_, "");
}

TEST_F(SlotMapTest, ANodeWithoutAHostHasThatOfTheReplier) {
  auto map = Read(absl::StrCat("*1\r\n", Range(0, 1, Node("", 7000))));
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_EQ(map->OwnerOf(0), "10.0.0.9:7000");
  map = Read("*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$-1\r\n:7000\r\n");
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_EQ(map->OwnerOf(1), "10.0.0.9:7000");
}

// `?` is a host name that is not known, port 0 one without TLS.
TEST_F(SlotMapTest, LeavesOutWhatHasNoUsableAddress) {
  for (const std::string& node :
       {Node("?", 6379), Node("10.0.0.1", 0), Node("10.0.0.1", 70000),
        Node("a b", 6379), Node("10.0.0.1\n", 6379)}) {
    const auto map = Read(absl::StrCat("*2\r\n", Range(0, 1, node),
                                       Range(2, 3, Node("10.0.0.2", 1))));
    ASSERT_TRUE(map.ok()) << map.status();
    EXPECT_EQ(map->OwnerOf(0), "") << node;
    EXPECT_EQ(map->OwnerOf(2), "10.0.0.2:1");
    EXPECT_NE(problem_, "") << node;
  }
}

TEST_F(SlotMapTest, RefusesWhatIsNoSlotMap) {
  const std::string node = Node("10.0.0.1", 1);
  ExpectMalformed("+OK\r\n", "is not an array");
  ExpectMalformed("$-1\r\n", "is not an array");
  const std::string no_range = "not a range";
  ExpectMalformed("*1\r\n:5\r\n", no_range);
  ExpectMalformed("*1\r\n*2\r\n:0\r\n:1\r\n", no_range);
  ExpectMalformed(absl::StrCat("*1\r\n", Range(1, 0, node)), no_range);
  ExpectMalformed(absl::StrCat("*1\r\n", Range(-1, 0, node)), no_range);
  ExpectMalformed(absl::StrCat("*1\r\n", Range(0, 16384, node)), no_range);
  ExpectMalformed(absl::StrCat("*1\r\n*3\r\n$1\r\n0\r\n:1\r\n", node),
                  no_range);
  const std::string no_node = "without a host";
  ExpectMalformed(absl::StrCat("*1\r\n", Range(0, 1, ":5\r\n")), no_node);
  ExpectMalformed(absl::StrCat("*1\r\n", Range(0, 1, "*1\r\n$1\r\na\r\n")),
                  no_node);
  ExpectMalformed(
      absl::StrCat("*1\r\n", Range(0, 1, "*2\r\n$1\r\na\r\n$1\r\n1\r\n")),
      no_node);
  ExpectMalformed(absl::StrCat("*1\r\n", Range(0, 1, "*2\r\n:1\r\n:1\r\n")),
                  no_node);
}

TEST_F(SlotMapTest, RefusesASlotWithTwoMasters) {
  ExpectMalformed(absl::StrCat("*2\r\n", Range(0, 100, Node("10.0.0.1", 1)),
                               Range(100, 200, Node("10.0.0.2", 1))),
                  "names slot 100 twice");
}

TEST_F(SlotMapTest, ManyRangesFitAndTooManyNodesDoNot) {
  std::string bytes = absl::StrCat("*", kHashSlots, "\r\n");
  for (int slot = 0; slot < kHashSlots; ++slot) {
    absl::StrAppend(&bytes,
                    Range(slot, slot, Node("10.0.0.1", 1 + slot % 1024)));
  }
  const auto map = Read(bytes);
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_EQ(map->CountCovered(), kHashSlots);
  EXPECT_EQ(map->nodes().size(), SlotMap::kNodesMax);
  EXPECT_EQ(map->CountMasters(), SlotMap::kNodesMax);
  bytes = absl::StrCat("*", SlotMap::kNodesMax + 1, "\r\n");
  for (size_t i = 0; i <= SlotMap::kNodesMax; ++i) {
    const int slot = static_cast<int>(i);
    absl::StrAppend(&bytes, Range(slot, slot, Node("10.0.0.1", slot + 1)));
  }
  ExpectMalformed(bytes, "more than 1024 nodes");
}

TEST_F(SlotMapTest, ARedirectNamesAnotherOwner) {
  SlotMap map;
  EXPECT_EQ(map.OwnerOf(7), "");
  EXPECT_TRUE(map.SetOwner(7, "10.0.0.1:1"));
  EXPECT_EQ(map.OwnerOf(7), "10.0.0.1:1");
  EXPECT_EQ(map.OwnerOf(8), "");
  EXPECT_EQ(map.CountCovered(), 1);
}

TEST(RedirectTest, ReadsMovedAndAsk) {
  Redirect redirect;
  ASSERT_TRUE(redirect.Parse("MOVED 3999 127.0.0.1:6381", kReplier));
  EXPECT_EQ(redirect.kind, Redirect::Kind::kMoved);
  EXPECT_EQ(redirect.slot, 3999);
  EXPECT_EQ(redirect.host_port, "127.0.0.1:6381");
  ASSERT_TRUE(redirect.Parse("ASK 0 redis-1.internal:6381", kReplier));
  EXPECT_EQ(redirect.kind, Redirect::Kind::kAsk);
  EXPECT_EQ(redirect.host_port, "redis-1.internal:6381");
  // Redis writes no brackets, and no host if it does not know one.
  ASSERT_TRUE(redirect.Parse("MOVED 16383 2001:db8::1:6381", kReplier));
  EXPECT_EQ(redirect.host_port, "[2001:db8::1]:6381");
  ASSERT_TRUE(redirect.Parse("MOVED 1 :6381", kReplier));
  EXPECT_EQ(redirect.host_port, "10.0.0.9:6381");
}

TEST(RedirectTest, ReadsNothingElse) {
  for (const char* text :
       {"", "MOVED", "MOVED 1", "MOVED 16384 a:1", "MOVED -1 a:1",
        "MOVED x a:1", "MOVED 1 a", "MOVED 1 a:0", "MOVED 1 a:65536",
        "MOVED 1 ?:6379", "MOVED 1 a:1 b", "MOVED  1 a:1", "MOVED 1 a:b",
        "ERR MOVED 1 a:1", "MOVED1 1 a:1", "CLUSTERDOWN 1 a:1"}) {
    Redirect redirect;
    EXPECT_FALSE(redirect.Parse(text, kReplier)) << text;
    EXPECT_EQ(redirect.host_port, "");
  }
  EXPECT_TRUE(IsRedirect("ASK whatever"));
  EXPECT_FALSE(IsRedirect("ASKING"));
}

}  // namespace
}  // namespace internal
}  // namespace redis
}  // namespace udpgate
