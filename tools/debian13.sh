#!/usr/bin/env bash
# Builds the library, the program and the tests by CMake on Debian 13, in a folder
# made by debootstrap, and runs the tests there: all unit tests, and the end-to-end
# tests that depend on libraries (Redis, TLS, DNS, BPF) or on the settings.
#
#   tools/debian13.sh [--all | --package FOLDER] [ROOT]
#
# As root. ROOT keeps the system between runs (default: a temporary one). --all: all
# end-to-end tests, too. --package: builds the Debian packages into FOLDER instead,
# and installs and tries them there. Prints what the parts took, and which cases were
# skipped and why. Ends with 1 if a test fails.
set -euo pipefail

usage() {
  echo "usage: $0 [--all | --package FOLDER] [ROOT]" >&2
  exit 2
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
all=no
packages=
case "${1:-}" in
  --all)
    all=yes
    shift
    ;;
  --package)
    if [[ $# -lt 2 ]]; then usage; fi
    packages="$(realpath "$2")"
    shift 2
    ;;
esac
if [[ $# -gt 1 || "${1:-}" == -* ]]; then usage; fi
if [[ -n "$packages" && ! -d "$packages" ]]; then
  echo "$0: there is no folder $packages" >&2
  exit 2
fi
tools/install_deps.sh --container
. tools/system_folder.sh

open_system trixie "${1:-}"

if [[ -n "$packages" ]]; then
  # Both kinds of libraries are made of the same objects: ccache halves the time.
  part "packages" inside "$root" 'tools/install_deps.sh --package
    apt-get -qq install --yes --no-install-recommends ccache iproute2 \
      > /install.log 2>&1 || {
      cat /install.log
      exit 1
    }'
  part "Debian packages" inside "$root" 'rm -rf /packages
    mkdir /packages
    tools/package_deb.sh /packages'
  # As an operator does it, with what the packages depend on.
  part "installation" inside "$root" 'export DEBIAN_FRONTEND=noninteractive
    apt-get -qq install --yes --no-install-recommends /packages/*.deb \
      > /install.log 2>&1 || {
      cat /install.log
      exit 1
    }
    deploy/debian/installed_test.py "$(
      dpkg-query --show --showformat="\${source:Upstream-Version}" udp-gate)"
    apt-get -qq purge --yes udp-gate libudpgate-dev libudpgate0 > /install.log'
  part "libraries" inside "$root" 'deploy/debian/libraries_test.sh /packages'
  cp "$root"/packages/*.deb "$packages/"
  exit 0
fi

options=--cmake-tests
# These are about the load or the kernel, which are the same as elsewhere.
selection="-E '\.e2e\.(backend_gone|crash|ecmp|fast_path|jammed_link|late_address"
selection+="|limits|path|redis_many_keys|takeover|traffic|vrrp)_test$'"
if [[ "$all" == yes ]]; then
  options=--cmake-all-tests
  selection=
fi
part "packages" inside "$root" "tools/install_deps.sh $options"
# Without the optimiser, and many sources at once: a fraction of the time.
part "configuration" inside "$root" '
  cmake -S . -B /build -G Ninja -D CMAKE_BUILD_TYPE=Debug \
    -D CMAKE_CXX_FLAGS_DEBUG=-O0 -D CMAKE_UNITY_BUILD=ON \
    -D UDPGATE_PRECOMPILED_HEADERS=ON -D CMAKE_EXE_LINKER_FLAGS=-fuse-ld=lld \
    > /build.log 2>&1 || {
    tail -n 40 /build.log
    exit 1
  }'
find_tests "$selection"
part "build" inside "$root" "
  cmake --build /build --parallel \"\$(nproc)\" --target udp-gate \
    ${targets[*]} -- -k 0 > /build.log 2>&1 || {
    grep -A20 FAILED: /build.log || tail -n 40 /build.log
    exit 1
  }"
status=0
# They wait more than they work. What runs real programs gets one more attempt, as in
# .ci/run.
part "${#targets[@]} tests" inside "$root" "env -u CI ctest --test-dir /build \
  --parallel 3 --output-on-failure --repeat until-pass:2 $selection" || status=$?
print_skipped "$root"
exit "$status"
