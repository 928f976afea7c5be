// Tests of the fast path need privileges that a developer's account may lack.
// They are skipped without them; with CI=true that is a failure.
#ifndef UDPGATE_FASTPATH_KERNEL_RIGHTS_H_
#define UDPGATE_FASTPATH_KERNEL_RIGHTS_H_

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

#include "absl/status/status.h"

// In the body of a test or of SetUp: skips (or fails) if `status` is
// PermissionDenied, and fails for any other error.
#define UDPGATE_NEEDS_RIGHTS(status)                       \
  do {                                                     \
    const absl::Status& rights = (status);                 \
    const char* const ci = std::getenv("CI");              \
    if (absl::IsPermissionDenied(rights) &&                \
        (ci == nullptr || std::strcmp(ci, "true") != 0)) { \
      GTEST_SKIP() << rights;                              \
    }                                                      \
    ASSERT_TRUE(rights.ok()) << rights;                    \
  } while (false)

#endif  // UDPGATE_FASTPATH_KERNEL_RIGHTS_H_
