// The threads of a process, as /proc shows them (proc(5)).
#ifndef UDPGATE_TESTING_INTERNAL_SUPPORT_THREADS_H_
#define UDPGATE_TESTING_INTERNAL_SUPPORT_THREADS_H_

#include <sys/types.h>

#include <map>
#include <string>

namespace udpgate {
namespace test {

// The ids of all threads of a process, by their names. Empty where there is no
// such process.
std::multimap<std::string, pid_t> ThreadsOf(pid_t pid);

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SUPPORT_THREADS_H_
