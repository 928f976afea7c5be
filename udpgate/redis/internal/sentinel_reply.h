// What Sentinel says of a master.
#ifndef UDPGATE_REDIS_INTERNAL_SENTINEL_REPLY_H_
#define UDPGATE_REDIS_INTERNAL_SENTINEL_REPLY_H_

#include <hiredis/hiredis.h>

#include <string>

#include "absl/strings/string_view.h"

namespace udpgate {
namespace redis {
namespace internal {

// `host:port` of the reply to SENTINEL GET-MASTER-ADDR-BY-NAME
// (https://redis.io/docs/reference/sentinel-clients/
// #step-2-ask-for-master-address). Empty if it holds no valid address.
std::string ReadMasterAddress(const redisReply& reply);

// The new `host:port` of a message of +switch-master, "name old-host old-port
// new-host new-port". Empty if it is about another master, or invalid.
std::string ReadSwitchMaster(absl::string_view payload,
                             absl::string_view master);

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_SENTINEL_REPLY_H_
