#!/bin/sh
# Compiles the program for the kernel, and writes it as a C++ array of bytes.
#
#   embed_program.sh CLANG PROGRAM.bpf.c OBJECT SOURCE.cc
#
# clang alone has a compiler for eBPF in Debian 12; the headers are those of
# linux-libc-dev and libbpf-dev.
set -eu

"$1" -target bpf -mcpu=v2 -O2 -g -Wall -Wextra -Werror \
  -fdebug-compilation-dir=. -idirafter "/usr/include/$(uname -m)-linux-gnu" \
  -c "$2" -o "$3"
{
  echo '#include "udpgate/fastpath/internal/program_object.h"'
  echo 'namespace udpgate { namespace fastpath { namespace internal {'
  echo 'alignas(8) const unsigned char kProgramObject[] = {'
  od -An -v -tu1 "$3" | sed 's/ *\([0-9][0-9]*\)/\1,/g'
  echo '};'
  echo 'const size_t kProgramObjectBytes = sizeof(kProgramObject);'
  echo '}}}'
} > "$4"
