#include "udpgate/internal/control/handed_tags.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace udpgate {
namespace internal {
namespace {

class KnownTags final : public BackendResolver {
 public:
  void Resolve(const ResolveRequest& /*request*/, Callback /*done*/) override {}
  std::shared_ptr<SessionTag> RestoreTag(const SessionTag& tag) override {
    const auto found = tags.find(tag.key());
    return found == tags.end() ? nullptr : found->second;
  }

  std::map<std::string, std::shared_ptr<SessionTag>> tags;
};

// As they come from the old process.
std::vector<HandedSession> Sessions(const std::vector<std::string>& keys) {
  std::vector<HandedSession> sessions(keys.size());
  for (size_t i = 0; i < keys.size(); ++i) {
    if (keys[i].empty()) continue;
    sessions[i].tag = std::make_shared<SessionTag>(keys[i], keys[i] + " text");
  }
  return sessions;
}

class HandedTagsTest : public ::testing::Test {
 protected:
  std::shared_ptr<SessionTag> Know(const std::string& key) {
    return resolver_.tags[key] = std::make_shared<SessionTag>(key, "own");
  }

  KnownTags resolver_;
  HandedTags tags_;
};

TEST_F(HandedTagsTest, SessionsGetTheTagOfTheResolver) {
  const std::shared_ptr<SessionTag> own = Know("a");
  std::vector<HandedSession> sessions = Sessions({"a", "", "a"});
  tags_.Restore(absl::MakeSpan(sessions), &resolver_);
  EXPECT_EQ(sessions[0].tag, own);
  EXPECT_EQ(sessions[1].tag, nullptr);
  EXPECT_EQ(sessions[2].tag, own);
}

TEST_F(HandedTagsTest, SessionsOfATagThatTheResolverLacksShareIt) {
  std::vector<HandedSession> sessions = Sessions({"a", "b", "a"});
  tags_.Restore(absl::MakeSpan(sessions), &resolver_);
  EXPECT_EQ(sessions[0].tag->text(), "a text");
  EXPECT_EQ(sessions[0].tag, sessions[2].tag);
  EXPECT_NE(sessions[0].tag, sessions[1].tag);
}

TEST_F(HandedTagsTest, ATagThatTheResolverLearnsLaterIsRestoredThen) {
  std::vector<HandedSession> sessions = Sessions({"a"});
  tags_.Restore(absl::MakeSpan(sessions), &resolver_);
  const std::shared_ptr<SessionTag> own = Know("a");
  tags_.Restore(absl::MakeSpan(sessions), &resolver_);
  EXPECT_EQ(sessions[0].tag, own);
  // One that was created since.
  std::vector<HandedSession> late = Sessions({"a"});
  tags_.Restore(absl::MakeSpan(late), &resolver_);
  EXPECT_EQ(late[0].tag, own);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
