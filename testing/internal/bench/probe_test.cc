#include "testing/internal/bench/probe.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/internal/bench/latency_histogram.h"

namespace udpgate {
namespace bench {
namespace {

using Verdict = SequenceTracker::Verdict;

std::string Written(size_t size_bytes) {
  std::string datagram(size_bytes, '\0');
  WriteProbe({7, 42, 99, 123456789}, absl::MakeSpan(datagram));
  return datagram;
}

TEST(ProbeTest, ComesBackAsItWasWritten) {
  for (const size_t size_bytes : {32u, 33u, 64u, 71u, 1200u}) {
    const absl::optional<Probe> probe = ReadProbe(Written(size_bytes));
    ASSERT_TRUE(probe.has_value()) << size_bytes;
    EXPECT_EQ(probe->run, 7u);
    EXPECT_EQ(probe->client, 42u);
    EXPECT_EQ(probe->sequence, 99u);
    EXPECT_EQ(probe->sent_nanoseconds, 123456789);
  }
}

TEST(ProbeTest, AnyChangedByteIsNoticed) {
  const std::string whole = Written(75);
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string changed = whole;
    changed[i] = static_cast<char>(changed[i] ^ 0x10);
    EXPECT_FALSE(ReadProbe(changed).has_value()) << i;
  }
  EXPECT_FALSE(ReadProbe(whole.substr(0, 31)).has_value());
}

TEST(SequenceTrackerTest, TellsLateFromTwice) {
  SequenceTracker tracker;
  EXPECT_EQ(tracker.Note(0), Verdict::kInOrder);
  EXPECT_EQ(tracker.Note(3), Verdict::kInOrder);
  EXPECT_EQ(tracker.next(), 4u);
  EXPECT_EQ(tracker.Note(3), Verdict::kDuplicate);
  EXPECT_EQ(tracker.Note(1), Verdict::kReordered);
  EXPECT_EQ(tracker.Note(1), Verdict::kDuplicate);
  EXPECT_EQ(tracker.Note(0), Verdict::kDuplicate);
  EXPECT_EQ(tracker.next(), 4u);
}

TEST(SequenceTrackerTest, ForgetsOldNumbers) {
  SequenceTracker tracker;
  for (uint64_t i = 0; i < 1500; ++i) {
    ASSERT_EQ(tracker.Note(i), Verdict::kInOrder);
  }
  EXPECT_EQ(tracker.Note(1000), Verdict::kDuplicate);
  EXPECT_EQ(tracker.Note(5000), Verdict::kInOrder);
  EXPECT_EQ(tracker.Note(4999), Verdict::kReordered);
  EXPECT_EQ(tracker.Note(4999), Verdict::kDuplicate);
  EXPECT_EQ(tracker.Note(1000), Verdict::kReordered);
}

TEST(LatencyHistogramTest, PercentilesAreCloseAndNeverTooLow) {
  LatencyHistogram histogram;
  EXPECT_EQ(histogram.PercentileNanoseconds(50), 0);
  for (int64_t i = 1; i <= 1000; ++i) histogram.Record(i * 1000);
  EXPECT_EQ(histogram.count(), 1000);
  for (const double percent : {1.0, 50.0, 99.0, 99.9}) {
    const double exact = percent * 10000;
    const double got =
        static_cast<double>(histogram.PercentileNanoseconds(percent));
    EXPECT_GE(got, exact);
    EXPECT_LE(got, exact * 1.016);
  }
  EXPECT_EQ(histogram.PercentileNanoseconds(100), 1000000);
}

TEST(LatencyHistogramTest, SmallAndLargeTimes) {
  for (const int64_t nanoseconds : {0, 1, 63, 64, 127, 128, 129}) {
    LatencyHistogram histogram;
    histogram.Record(nanoseconds);
    EXPECT_EQ(histogram.PercentileNanoseconds(50), nanoseconds);
  }
  LatencyHistogram histogram;
  histogram.Record(-5);
  EXPECT_EQ(histogram.max_nanoseconds(), 0);
  histogram.Record(INT64_MAX);
  EXPECT_EQ(histogram.PercentileNanoseconds(100), (int64_t{1} << 40) - 1);
}

}  // namespace
}  // namespace bench
}  // namespace udpgate
