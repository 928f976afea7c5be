#include "testing/internal/support/malloc_count.h"

#include <cstddef>

namespace {
thread_local int64_t malloc_count = 0;
}  // namespace

// glibc's own functions, behind those that this program replaces.
extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* memory, size_t size);

void* malloc(size_t size) noexcept {
  ++malloc_count;
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) noexcept {
  ++malloc_count;
  return __libc_calloc(count, size);
}
void* realloc(void* memory, size_t size) noexcept {
  ++malloc_count;
  return __libc_realloc(memory, size);
}
}

namespace udpgate {
namespace test {

int64_t MallocCount() { return malloc_count; }

}  // namespace test
}  // namespace udpgate
