// Log lines about an outage that several connections to one Redis notice.
#ifndef UDPGATE_REDIS_REDIS_OUTAGE_LOG_H_
#define UDPGATE_REDIS_REDIS_OUTAGE_LOG_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/base/export.h"
#include "udpgate/clock.h"
#include "udpgate/logging.h"
#include "udpgate/redis/redis_problem.h"

namespace udpgate {

// Set `RedisOptions::outage_log` of all objects that use one Redis to one of
// these: then an outage is one line, and its end is one line, and both name the
// connections. A line comes a little later, since connections notice an outage
// one after the other. If they differ in what is wrong (one lacks a permission)
// each reason has a line.
//
// Threads: any. The sink is called without a lock.
class UDPGATE_EXPORT RedisOutageLog {
 public:
  static constexpr int64_t kNever = INT64_MAX;
  // How long lines wait for those of other connections.
  static constexpr absl::Duration kGatherTime = absl::Milliseconds(300);
  // How long the line of the end waits for the last connection.
  static constexpr absl::Duration kRecoveryWaitMax = absl::Seconds(6);

  // `clock` must outlive it.
  RedisOutageLog(const Clock* clock, LogSink sink);
  // Writes what still waits.
  ~RedisOutageLog();
  RedisOutageLog(const RedisOutageLog&) = delete;
  RedisOutageLog& operator=(const RedisOutageLog&) = delete;

  // For the connections. `subject` is "Redis ADDRESS", `name` that of the
  // connection.

  // Returns the number of the connection for the calls below.
  size_t Add(absl::string_view subject, absl::string_view name);
  void Remove(size_t connection);
  void Lost(size_t connection, RedisProblem problem, absl::string_view why);
  void Recovered(size_t connection, absl::string_view what);
  // Writes the lines that are due. Returns when there is more to write, in the
  // time of the clock. Call it until then.
  int64_t Flush();

 private:
  class Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace udpgate

#endif  // UDPGATE_REDIS_REDIS_OUTAGE_LOG_H_
