// How often this thread has called malloc(3) and its kin, for example inside
// OpenSSL. Linking it replaces them for the whole program; the sanitizers have
// their own, so it does not work with them.
#ifndef UDPGATE_TESTING_INTERNAL_SUPPORT_MALLOC_COUNT_H_
#define UDPGATE_TESTING_INTERNAL_SUPPORT_MALLOC_COUNT_H_

#include <cstdint>

namespace udpgate {
namespace test {

int64_t MallocCount();

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SUPPORT_MALLOC_COUNT_H_
