// Public headers show it, so it lies in //udpgate/base.
#ifndef UDPGATE_INTERNAL_UTIL_MUTEX_H_
#define UDPGATE_INTERNAL_UTIL_MUTEX_H_

#include "udpgate/base/mutex.h"  // IWYU pragma: export

#endif  // UDPGATE_INTERNAL_UTIL_MUTEX_H_
