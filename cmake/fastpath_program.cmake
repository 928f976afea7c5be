# Compiles the program for the kernel, and embeds it as an array of bytes: who
# links the library needs no clang.
find_program(UDPGATE_BPF_CLANG NAMES clang clang-19 clang-14 REQUIRED
             DOC "clang, which compiles for -target bpf")

set(folder "${PROJECT_SOURCE_DIR}/udpgate/fastpath/internal")
set(object "${PROJECT_BINARY_DIR}/fastpath.bpf.o")
set(udpgate_program_object "${PROJECT_BINARY_DIR}/program_object.cc")
add_custom_command(
    OUTPUT "${udpgate_program_object}"
    COMMAND sh "${folder}/embed_program.sh" "${UDPGATE_BPF_CLANG}"
            "${folder}/fastpath.bpf.c" "${object}" "${udpgate_program_object}"
    DEPENDS "${folder}/fastpath.bpf.c" "${folder}/layout.h"
            "${folder}/packet.h" "${folder}/embed_program.sh"
    COMMENT "Compiling fastpath.bpf.c for the kernel" VERBATIM)
