#include "cli/settings/dotenv.h"

#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace udpgate {
namespace cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;
using ::testing::StartsWith;

using Pairs = std::vector<std::pair<std::string, std::string>>;

Pairs Parse(absl::string_view content) {
  const auto entries = ParseDotenv(content, "test.env");
  EXPECT_TRUE(entries.ok()) << entries.status();
  Pairs pairs;
  if (!entries.ok()) return pairs;
  for (const DotenvEntry& entry : *entries) {
    pairs.emplace_back(entry.name, entry.value);
  }
  return pairs;
}

std::string ParseError(absl::string_view content) {
  const auto entries = ParseDotenv(content, "test.env");
  EXPECT_FALSE(entries.ok()) << content;
  return std::string(entries.status().message());
}

TEST(ParseDotenvTest, NothingButCommentsAndBlankLines) {
  EXPECT_THAT(Parse(""), IsEmpty());
  EXPECT_THAT(Parse("\n  \n# A=1\n  # B=2\n\t\n"), IsEmpty());
}

TEST(ParseDotenvTest, PlainLines) {
  EXPECT_THAT(
      Parse("A=1\nB_2=two words\n_c=\n"),
      ElementsAre(Pair("A", "1"), Pair("B_2", "two words"), Pair("_c", "")));
}

TEST(ParseDotenvTest, LastLineWithoutLineFeed) {
  EXPECT_THAT(Parse("A=1\nB=2"), ElementsAre(Pair("A", "1"), Pair("B", "2")));
}

TEST(ParseDotenvTest, Export) {
  EXPECT_THAT(Parse("export A=1\n  export\tB=2\nexport=3\nexported=4\n"),
              ElementsAre(Pair("A", "1"), Pair("B", "2"), Pair("export", "3"),
                          Pair("exported", "4")));
}

TEST(ParseDotenvTest, EqualsInTheValue) {
  EXPECT_THAT(Parse("A=b=c==\nB=\"x=y\"\n"),
              ElementsAre(Pair("A", "b=c=="), Pair("B", "x=y")));
}

TEST(ParseDotenvTest, WhiteSpaceAroundIsCut) {
  EXPECT_THAT(Parse("  A = 1  \nB=\t2\t\n"),
              ElementsAre(Pair("A", "1"), Pair("B", "2")));
}

TEST(ParseDotenvTest, CarriageReturns) {
  EXPECT_THAT(Parse("A=1\r\nB='2'\r\n# c\r\n\r\nC=\r\n"),
              ElementsAre(Pair("A", "1"), Pair("B", "2"), Pair("C", "")));
}

TEST(ParseDotenvTest, ByteOrderMark) {
  EXPECT_THAT(Parse("\xef\xbb\xbf"
                    "A=1\n"),
              ElementsAre(Pair("A", "1")));
}

TEST(ParseDotenvTest, InlineComments) {
  EXPECT_THAT(
      Parse("A=1 # one\nB=a#b\nC=#c\nD= # empty\nE='x' # y\nF=\"x\"\t#y\n"),
      ElementsAre(Pair("A", "1"), Pair("B", "a#b"), Pair("C", "#c"),
                  Pair("D", ""), Pair("E", "x"), Pair("F", "x")));
}

TEST(ParseDotenvTest, SingleQuotesKeepEverything) {
  EXPECT_THAT(Parse(R"(A=' a # "b" \n $C ')"),
              ElementsAre(Pair("A", R"( a # "b" \n $C )")));
}

TEST(ParseDotenvTest, DoubleQuotesKnowEscapes) {
  EXPECT_THAT(Parse(R"(A=" a'b # \"\\\n\r\t\$ ")"),
              ElementsAre(Pair("A", " a'b # \"\\\n\r\t$ ")));
}

TEST(ParseDotenvTest, QuotesInsideAnUnquotedValueStay) {
  EXPECT_THAT(Parse("A=it's\nB=a\"b\"\n"),
              ElementsAre(Pair("A", "it's"), Pair("B", "a\"b\"")));
}

TEST(ParseDotenvTest, KeepsOrderRepeatsAndLineNumbers) {
  const auto entries = ParseDotenv("A=1\n\nA=2\n", "test.env");
  ASSERT_TRUE(entries.ok());
  ASSERT_EQ(entries->size(), 2u);
  EXPECT_EQ((*entries)[0].line_number, 1);
  EXPECT_EQ((*entries)[1].line_number, 3);
  EXPECT_EQ((*entries)[1].value, "2");
}

TEST(ParseDotenvTest, BadLinesNameFileAndLineAndNotTheValue) {
  for (const char* line :
       {"just words hunter2", "=hunter2", "1A=hunter2", "A-B=hunter2",
        "A='hunter2", "A=\"hunter2", "A=\"hunter2\\\"", "A='x'hunter2",
        "A=\"x\"#hunter2", "A=\"\\hunter2\"", "A=\"hunter2\\",
        "export A hunter2"}) {
    const std::string error = ParseError(absl::StrCat("# one\n", line, "\n"));
    EXPECT_THAT(error, StartsWith("test.env:2: ")) << line;
    EXPECT_THAT(error, Not(HasSubstr("hunter2"))) << line;
    EXPECT_THAT(error, Not(HasSubstr("\n"))) << line;
  }
}

TEST(ParseDotenvTest, BadValuesNameTheirVariable) {
  EXPECT_EQ(ParseError("export LOG_LEVEL='hunter2"),
            "test.env:1: LOG_LEVEL: the closing quote is missing");
  EXPECT_LT(ParseError(std::string(1000, 'A') + "='").size(), 200u);
}

TEST(ParseDotenvTest, ZeroByte) {
  EXPECT_THAT(ParseError(absl::string_view("A=1\nB=\0\n", 8)),
              StartsWith("test.env:2: "));
}

TEST(ParseDotenvTest, SizeIsBounded) {
  const std::string fits = "#" + std::string(kDotenvBytesMax - 2, 'x') + "\n";
  EXPECT_THAT(Parse(fits), IsEmpty());
  EXPECT_THAT(ParseError(fits + "\n"), HasSubstr("65536 bytes"));
}

std::string TestFile(const std::string& name) {
  return absl::StrCat(::testing::TempDir(), "/", name, ".", getpid());
}

TEST(LoadDotenvTest, ReadsTheFile) {
  const std::string path = TestFile("good.env");
  std::ofstream(path) << "A=1\n";
  const auto entries = LoadDotenv(path);
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), 1u);
  EXPECT_EQ((*entries)[0].name, "A");
}

TEST(LoadDotenvTest, MissingFileIsNoError) {
  const auto entries = LoadDotenv(TestFile("missing.env"));
  ASSERT_TRUE(entries.ok()) << entries.status();
  EXPECT_THAT(*entries, IsEmpty());
}

TEST(LoadDotenvTest, WhatExistsAndCannotBeReadIsAnError) {
  const std::string path = TestFile("folder.env");
  ASSERT_EQ(mkdir(path.c_str(), 0700), 0);
  const auto entries = LoadDotenv(path);
  EXPECT_THAT(std::string(entries.status().message()), StartsWith(path));
}

TEST(LoadDotenvTest, EndlessFileIsAnError) {
  const auto entries = LoadDotenv("/dev/zero");
  EXPECT_THAT(std::string(entries.status().message()),
              HasSubstr("65536 bytes"));
}

}  // namespace
}  // namespace cli
}  // namespace udpgate
