// Which seeds the test of a simulation runs.
#ifndef UDPGATE_TESTING_INTERNAL_SIMULATION_SEEDS_H_
#define UDPGATE_TESTING_INTERNAL_SIMULATION_SEEDS_H_

#include <cstdint>
#include <cstdlib>

#include "absl/strings/numbers.h"
#include "gtest/gtest.h"

namespace udpgate {
namespace internal {
namespace simulation {

struct Seeds {
  uint64_t first = 1;
  uint64_t count = 0;

  uint64_t end() const { return first + count; }
};

// As the environment variables UDPGATE_SIMULATION_FIRST_SEED and
// UDPGATE_SIMULATION_SEEDS say, else `count` seeds from 1 on. The test fails if
// a variable is no number.
inline Seeds SeedsToRun(uint64_t count) {
  const auto read = [](const char* variable, uint64_t* number) {
    const char* const text = std::getenv(variable);
    const uint64_t otherwise = *number;
    if (text != nullptr && !absl::SimpleAtoi(text, number)) {
      *number = otherwise;
      ADD_FAILURE() << variable << "=" << text << ": not a number";
    }
  };
  Seeds seeds;
  seeds.count = count;
  read("UDPGATE_SIMULATION_FIRST_SEED", &seeds.first);
  read("UDPGATE_SIMULATION_SEEDS", &seeds.count);
  return seeds;
}

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SIMULATION_SEEDS_H_
