// Public headers show it, so it lies in //udpgate/base.
#ifndef UDPGATE_INTERNAL_NET_SYS_CALLS_H_
#define UDPGATE_INTERNAL_NET_SYS_CALLS_H_

#include "udpgate/base/sys_calls.h"  // IWYU pragma: export

#endif  // UDPGATE_INTERNAL_NET_SYS_CALLS_H_
