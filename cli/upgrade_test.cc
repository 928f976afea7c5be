#include "cli/upgrade.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace udpgate {
namespace cli {
namespace {

using ::testing::HasSubstr;

TEST(UpgradeObjectionTest, NamesTheReasonAgainstANewProcess) {
  Settings settings;
  EXPECT_THAT(UpgradeObjection(settings, false, 2),
              HasSubstr("TAKEOVER_SOCKET is not set"));
  settings.takeover_socket = "/run/t.sock";
  EXPECT_EQ(UpgradeObjection(settings, false, 2), "");
  EXPECT_THAT(UpgradeObjection(settings, true, 2), HasSubstr("shutdown"));
  // The first process of a container ends the container.
  EXPECT_THAT(UpgradeObjection(settings, false, 1), HasSubstr("container"));
}

TEST(NotesForNewProcessTest, PassesOnWhatItWasGivenWithoutAnEndpoint) {
  EXPECT_EQ(NotesForNewProcess(nullptr, nullptr, nullptr, "given"), "given");
}

TEST(NotesTest, JoinsComeBesideWhatIsThere) {
  const std::string joins("\xff\0[\"", 4);
  std::string notes = AddJoinsToNotes("{\"counters\":{}}", joins);
  EXPECT_NE(notes, "{\"counters\":{}}");
  EXPECT_EQ(TakeJoinsFromNotes(&notes), joins);
  EXPECT_EQ(notes, "{\"counters\":{}}");
  EXPECT_EQ(TakeJoinsFromNotes(&notes), "");
  // Of a process without an endpoint.
  notes = AddJoinsToNotes("", "[2]");
  EXPECT_EQ(TakeJoinsFromNotes(&notes), "[2]");
  EXPECT_EQ(AddJoinsToNotes("{}", ""), "{}");
}

TEST(NotesTest, TheStreamPositionComesBesideTheJoins) {
  std::string notes = AddStreamPositionToNotes(
      AddJoinsToNotes("{\"counters\":{}}", "j"), "5-6");
  EXPECT_EQ(TakeStreamPositionFromNotes(&notes), "5-6");
  EXPECT_EQ(TakeStreamPositionFromNotes(&notes), "");
  EXPECT_EQ(TakeJoinsFromNotes(&notes), "j");
  EXPECT_EQ(notes, "{\"counters\":{}}");
  EXPECT_EQ(AddStreamPositionToNotes("{}", ""), "{}");
}

TEST(NotesTest, JoinsThatAreTooLongAreLeftOut) {
  EXPECT_EQ(AddJoinsToNotes("{}", std::string(4 << 20, 'j')), "{}");
}

TEST(NotesTest, NotesThatAreNoObjectHaveNoJoins) {
  for (const char* text :
       {"", "[]", "{", "{\"joins\":5}", "{\"joins\":\"?\"}"}) {
    std::string notes = text;
    EXPECT_EQ(TakeJoinsFromNotes(&notes), "") << text;
  }
}

TEST(HostStateTest, HasTheRunOfTheStoreBeforeTheJoins) {
  const std::string joins("join\0store-run \n\xff", 17);
  const HostState state =
      DecodeHostState(EncodeHostState({joins, std::string("r\0\n", 3)}));
  EXPECT_EQ(state.joins, joins);
  EXPECT_EQ(state.store_run, std::string("r\0\n", 3));
}

TEST(HostStateTest, WithoutARunItIsTheJoinsAsEver) {
  EXPECT_EQ(EncodeHostState({"joins", ""}), "joins");
  for (const char* text : {"", "joins", "store-run ", "store-run ?\njoins"}) {
    const HostState state = DecodeHostState(text);
    EXPECT_EQ(state.joins, text);
    EXPECT_EQ(state.store_run, "") << text;
  }
}

}  // namespace
}  // namespace cli
}  // namespace udpgate
