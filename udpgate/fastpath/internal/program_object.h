// The compiled fastpath.bpf.c, an ELF file, as part of the binary.
#ifndef UDPGATE_FASTPATH_INTERNAL_PROGRAM_OBJECT_H_
#define UDPGATE_FASTPATH_INTERNAL_PROGRAM_OBJECT_H_

#include <cstddef>

namespace udpgate {
namespace fastpath {
namespace internal {

extern const unsigned char kProgramObject[];
extern const size_t kProgramObjectBytes;

}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate

#endif  // UDPGATE_FASTPATH_INTERNAL_PROGRAM_OBJECT_H_
