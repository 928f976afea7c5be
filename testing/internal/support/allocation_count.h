// How often this thread has allocated memory. Linking it replaces operator new
// for the whole program.
#ifndef UDPGATE_TESTING_INTERNAL_SUPPORT_ALLOCATION_COUNT_H_
#define UDPGATE_TESTING_INTERNAL_SUPPORT_ALLOCATION_COUNT_H_

#include <cstdint>

namespace udpgate {
namespace test {

int64_t AllocationCount();

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SUPPORT_ALLOCATION_COUNT_H_
