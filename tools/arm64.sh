#!/usr/bin/env bash
# Cross-builds the library, the program and the unit tests for arm64 with CMake, on
# Debian 12 in a folder made by debootstrap(8), and runs the tests under qemu-user.
#
#   tools/arm64.sh [--tests REGEX] [FOLDER]
#
# As root. FOLDER keeps the system and the build, so that a second run is fast
# (default: a temporary one). --tests: only those whose names match (ctest(1), -R);
# the name of udpgate/dns/host_port_test.cc is udpgate.dns.host_port_test.
#
# There are no end-to-end tests: qemu-user has neither all socket options nor the
# speed that they expect.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
tests=.
if [[ "${1:-}" == --tests && $# -ge 2 ]]; then
  tests="$2"
  shift 2
fi
if [[ $# -gt 1 || "${1:-}" == -* ]]; then
  echo "usage: $0 [--tests REGEX] [FOLDER]" >&2
  exit 2
fi
if [[ "$(id -u)" -ne 0 ]]; then
  echo "$0: needs root, for debootstrap and chroot" >&2
  exit 1
fi
folder="${1:-}"
tools/install_deps.sh --container

if [[ -z "$folder" ]]; then
  folder="$(mktemp -d)"
  trap 'rm -rf --one-file-system "$folder"' EXIT
fi
mkdir -p "$folder"
folder="$(realpath "$folder")"
log="$folder/log"
root="$folder/root"

quietly() {
  "$@" > "$log" 2>&1 < /dev/null || {
    grep -E -A3 'error:|undefined reference' "$log" | head -n 40 >&2 || true
    tail -n 20 "$log" | cut -c1-200 >&2
    echo "$0: ${*:1:3} ... failed" >&2
    exit 1
  }
}

# Its mounts end with the command.
inside() {
  # shellcheck disable=SC2016 # expanded inside
  unshare --mount sh -c 'set -e
    for name in dev sys; do mount --rbind "/$name" "$0/$name"; done
    mount -t proc proc "$0/proc"
    mount -t tmpfs tmpfs "$0/run"
    exec chroot "$0" env LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
      HOME=/root "$@"' "$root" "$@"
}

if [[ ! -e "$folder/ready" ]]; then
  echo "--- system"
  quietly debootstrap --variant=minbase bookworm "$root" \
    http://deb.debian.org/debian
  # The same mirror and options as this machine's.
  cp /etc/apt/apt.conf.d/* "$root/etc/apt/apt.conf.d/"
  cp /etc/resolv.conf /etc/hosts "$root/etc/"
  quietly inside dpkg --add-architecture arm64
  touch "$folder/ready"
fi
rm -rf "$root/source"
mkdir -p "$root/source" "$root/build"
git -c safe.directory="$PWD" ls-files -z \
  | xargs -0 cp --parents --no-dereference --target-directory="$root/source"
quietly inside /source/tools/install_deps.sh --cmake-tests arm64

echo "--- build"
selection=(-R "$tests" -E '^testing\.internal\.e2e\.')
# Many sources at once take a fraction of the time.
quietly inside cmake -S /source -B /build -G Ninja -D CMAKE_BUILD_TYPE=Debug \
  -D CMAKE_CXX_FLAGS_DEBUG=-O0 -D CMAKE_UNITY_BUILD=ON \
  -D CMAKE_TOOLCHAIN_FILE=/source/cmake/arm64.cmake
quietly inside ctest --test-dir /build -N "${selection[@]}"
mapfile -t targets < <(sed -nE 's/^ *Test +#[0-9]+: //p' "$log")
if [[ ${#targets[@]} -eq 0 ]]; then
  echo "$0: no test matches $tests" >&2
  exit 1
fi
quietly inside cmake --build /build --parallel "$(nproc)" --target udp-gate \
  "${targets[@]}" -- -k 0

echo "--- ${#targets[@]} tests"
inside ctest --test-dir /build --output-on-failure --parallel "$(nproc)" \
  "${selection[@]}" < /dev/null
