#!/usr/bin/env bash
# Installs the packages of the libraries, and builds and tests what uses them: an
# example by pkg-config, and examples/consumer by pkg-config and by CMake, as it lies
# in the package.
#
#   libraries_test.sh FOLDER       FOLDER: the packages, of tools/package_deb.sh
#
# As root; the machine's file system stays as it is, see overlay_root.sh.
set -euo pipefail

if [[ "${1:-}" != --inside ]]; then
  exec "$(dirname "$0")/overlay_root.sh" "$(realpath "$1")" \
    bash -c "$(cat "$0")" libraries_test.sh --inside
fi

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

cd /run/udpgate-test
dpkg --install libudpgate0_*.deb libudpgate-dev_*.deb > /tmp/log \
  || fail "$(cat /tmp/log)"
examples=/usr/share/doc/libudpgate-dev/examples
mkdir /tmp/work
cd /tmp/work

# shellcheck disable=SC2046 # lists of words
g++ -std=c++17 "$examples/embed.cc" $(pkg-config --cflags --libs udpgate-core) \
  -o embed || fail "an example does not compile"
# All that it is linked with is found without help, and comes from the package.
ldd embed | grep 'libudpgate_core\.so\.[0-9.]* => /' > /dev/null || fail "$(ldd embed)"

# shellcheck disable=SC2046
g++ -std=c++17 "$examples"/consumer/{two_backends,gateway_test}.cc \
  $(pkg-config --cflags --libs udpgate-testing gmock_main) -pthread -o gateway_test
./gateway_test > /tmp/log || fail "$(cat /tmp/log)"

cmake -S "$examples/consumer" -B build > /tmp/log 2>&1 \
  && cmake --build build --parallel "$(nproc)" > /tmp/log 2>&1 \
  && ctest --test-dir build --output-on-failure > /tmp/log 2>&1 \
  || fail "$(cat /tmp/log)"

# Each component is found, with what its .pc file asks for.
for file in /usr/lib/*/pkgconfig/udpgate-*.pc; do
  name="${file##*/}"
  pkg-config --exists --print-errors "${name%.pc}" || fail "$name"
done
dpkg --purge libudpgate-dev libudpgate0 > /tmp/log || fail "$(cat /tmp/log)"
if compgen -G '/usr/lib/*/libudpgate*' || [[ -e /usr/include/udpgate ]]; then
  fail "the purge left files"
fi
echo "the packages of the libraries work"
