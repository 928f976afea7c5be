// Tests of the fast path need rights that a developer's account may lack. There
// they are skipped; where everything must run (CI=true) that is a failure.
#ifndef UDPGATE_FASTPATH_KERNEL_RIGHTS_H_
#define UDPGATE_FASTPATH_KERNEL_RIGHTS_H_

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

#include "absl/status/status.h"

// In the body of a test, or of SetUp: skips or fails where `status` is that the
// rights are missing, and fails for any other error.
#define UDPGATE_NEEDS_RIGHTS(status)                       \
  do {                                                     \
    const absl::Status rights = (status);                  \
    const char* const ci = std::getenv("CI");              \
    if (absl::IsPermissionDenied(rights) &&                \
        (ci == nullptr || std::strcmp(ci, "true") != 0)) { \
      GTEST_SKIP() << rights;                              \
    }                                                      \
    ASSERT_TRUE(rights.ok()) << rights;                    \
  } while (false)

#endif  // UDPGATE_FASTPATH_KERNEL_RIGHTS_H_
