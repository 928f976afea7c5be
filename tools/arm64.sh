#!/usr/bin/env bash
# Cross-builds the library, the program and the unit tests for arm64 by CMake, on
# Debian 12 in a folder made by debootstrap, and runs the unit tests under qemu-user.
#
#   tools/arm64.sh [--tests REGEX] [ROOT]
#
# As root. ROOT keeps the system between runs (default: a temporary one). --tests:
# only those whose names match (ctest(1), -R); the name of
# udpgate/dns/host_port_test.cc is udpgate.dns.host_port_test. Ends with 1 if a test
# fails.
#
# There are no end-to-end tests, which start the program: qemu-user starts no child of
# the same architecture. What else it cannot run is listed in
# tools/arm64_left_out.txt, with the reasons. All other cases run, and pass or fail.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
tests=.
if [[ "${1:-}" == --tests && $# -ge 2 ]]; then
  tests="$2"
  shift 2
fi
if [[ $# -gt 1 || "${1:-}" == -* ]]; then
  echo "usage: $0 [--tests REGEX] [ROOT]" >&2
  exit 2
fi
tools/install_deps.sh --container
. tools/system_folder.sh

open_system bookworm "${1:-}"
# debootstrap makes none, and a test looks localhost up.
printf '127.0.0.1 localhost\n::1 localhost\n' > "$root/etc/hosts"

part "packages" inside "$root" 'dpkg --add-architecture arm64
  tools/install_deps.sh --cmake-tests arm64'
# Many sources at once take a fraction of the time.
part "configuration" inside "$root" 'cmake -S . -B /build -G Ninja -D CMAKE_BUILD_TYPE=Debug \
    -D CMAKE_CXX_FLAGS_DEBUG=-O0 -D CMAKE_UNITY_BUILD=ON \
    -D UDPGATE_PRECOMPILED_HEADERS=ON \
    -D CMAKE_TOOLCHAIN_FILE=/source/cmake/arm64.cmake > /build.log 2>&1 || {
    tail -n 40 /build.log
    exit 1
  }'
left_out_tests='testing\.internal\.e2e\..*'
left_out_cases=
while read -r name; do
  case "$name" in
    *.cc)
      name="${name%.cc}"
      left_out_tests+="|${name//\//\\.}"
      ;;
    *) left_out_cases+=":$name" ;;
  esac
done < <(sed -E 's/ *#.*//; /^$/d' tools/arm64_left_out.txt)
selection="-R '$tests' -E '^($left_out_tests)$'"
find_tests "$selection"
part "build" inside "$root" "cmake --build /build --parallel \"\$(nproc)\" --target udp-gate \
    ${targets[*]} -- -k 0 > /build.log 2>&1 || {
    grep -A20 FAILED: /build.log || tail -n 40 /build.log
    exit 1
  }"
status=0
part "${#targets[@]} tests" inside "$root" "env -u CI GTEST_FILTER='-${left_out_cases#:}' \
  ctest --test-dir /build --parallel \"\$(nproc)\" --output-on-failure \
  --repeat until-pass:2 $selection" || status=$?
print_skipped "$root"
exit "$status"
