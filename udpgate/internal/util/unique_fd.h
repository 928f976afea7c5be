// Public headers show it, so it lies in //udpgate/base.
#ifndef UDPGATE_INTERNAL_UTIL_UNIQUE_FD_H_
#define UDPGATE_INTERNAL_UTIL_UNIQUE_FD_H_

#include "udpgate/base/unique_fd.h"  // IWYU pragma: export

#endif  // UDPGATE_INTERNAL_UTIL_UNIQUE_FD_H_
