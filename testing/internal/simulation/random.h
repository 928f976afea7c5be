// The random numbers of one seed.
#ifndef UDPGATE_TESTING_INTERNAL_SIMULATION_RANDOM_H_
#define UDPGATE_TESTING_INTERNAL_SIMULATION_RANDOM_H_

#include <cstdint>
#include <random>
#include <vector>

namespace udpgate {
namespace internal {
namespace simulation {

// The same seed gives the same numbers, so the order of the calls matters: a
// change of it changes what every seed does.
class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}

  int64_t Below(int64_t end) {
    return static_cast<int64_t>(engine_() % static_cast<uint64_t>(end));
  }
  int64_t Between(int64_t first, int64_t last) {
    return first + Below(last - first + 1);
  }
  bool OneIn(int64_t count) { return Below(count) == 0; }
  template <typename T>
  const T& OneOf(const std::vector<T>& values) {
    return values[Below(static_cast<int64_t>(values.size()))];
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SIMULATION_RANDOM_H_
