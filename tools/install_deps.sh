#!/usr/bin/env bash
# Installs the Debian packages that the build needs, if they are missing. All are
# in Debian 12; those of --package and --cmake-...tests are in Debian 13, too.
#
#   tools/install_deps.sh        to build, to test and to run
#   tools/install_deps.sh --ci   also what .ci/run needs
#   tools/install_deps.sh --bench
#                                also what tools/bench.sh compares with
#   tools/install_deps.sh --cmake-tests [ARCHITECTURE]
#                                only what CMake builds, and the tests run; with an
#                                architecture, to cross-build for it (arm64)
#   tools/install_deps.sh --cmake-all-tests
#                                also what all end-to-end tests run
#   tools/install_deps.sh --container
#                                also what tools/container.sh runs
#   tools/install_deps.sh --fuzz also what tools/fuzz.sh needs
#   tools/install_deps.sh --programs
#                                also what tools/programs.sh runs
#   tools/install_deps.sh --kernels
#                                also what tools/kernels.sh needs
#   tools/install_deps.sh --nethernet
#                                also what tools/nethernet.sh runs
#   tools/install_deps.sh --package
#                                only what tools/package_deb.sh needs
#
# Prints nothing, and needs no sudo, if nothing is missing.
set -euo pipefail

# a|b: the first that this release of Debian has.
# What CMake builds the libraries and the program with.
cmake_packages=(
  clang cmake dpkg-dev g++ libabsl-dev "libboost1.81-dev|libboost-dev" libbpf-dev libc-ares-dev
  libcli11-dev libgmock-dev libgtest-dev libhiredis-dev libspdlog-dev libssl-dev
  libsystemd-dev ninja-build nlohmann-json3-dev pkg-config prometheus-cpp-dev
  python3
)
cmake_test_packages=(
  "${cmake_packages[@]}" ethtool iproute2 lld nftables openssl redis-server
)
cmake_all_test_packages=(
  "${cmake_test_packages[@]}" haproxy keepalived libnice-dev nutcracker
)
packages=(
  "${cmake_test_packages[@]}"
  bazel-bootstrap bazel-rules-java bazel-rules-proto
  libbenchmark-dev libclang-rt-14-dev libnice-dev
)
ci_packages=(
  ccache chromium chromium-driver clang-format clang-tidy curl git haproxy
  keepalived lintian nutcracker prometheus python3-yaml systemd
)
bench_packages=(
  golang-github-gomodule-redigo-dev golang-go golang-golang-x-net-dev
  libnginx-mod-stream nginx-light
)
container_packages=(buildah debootstrap python3-yaml socat)
nethernet_packages=()
programs_packages=(
  iperf3 kcptun libcoap3-bin libgl1-mesa-dri minetest minetest-data
  minetest-server ngtcp2-client ngtcp2-server srt-tools wireguard-go
  wireguard-tools xvfb
)
# A node that is there already may come from elsewhere, with its own npm.
command -v node > /dev/null || nethernet_packages+=(nodejs)
command -v npm > /dev/null || nethernet_packages+=(npm)
programs_packages+=("${nethernet_packages[@]}")
fuzz_packages=(llvm)
kernels_packages=(busybox-static kmod qemu-system-x86 xz-utils zstd)

# The libraries of another architecture, and what builds and runs code for it.
cross_build() {  # ARCHITECTURE
  local package
  packages=("crossbuild-essential-$1" qemu-user-static)
  for package in "${cmake_test_packages[@]}"; do
    case "$package" in
      libcli11-dev) packages+=("$package") ;;  # headers alone
      lib* | prometheus-cpp-dev) packages+=("${package//-dev/-dev:$1}") ;;
      *) packages+=("$package") ;;
    esac
  done
}

case "${1:-}" in
  "") ;;
  --ci)
    packages+=("${ci_packages[@]}" "${programs_packages[@]}"
      "${container_packages[@]}" "${kernels_packages[@]}")
    ;;
  --bench) packages+=("${bench_packages[@]}") ;;
  --fuzz) packages+=("${fuzz_packages[@]}") ;;
  --cmake-tests)
    packages=("${cmake_test_packages[@]}")
    if [[ -n "${2:-}" ]]; then cross_build "$2"; fi
    ;;
  --cmake-all-tests) packages=("${cmake_all_test_packages[@]}") ;;
  --container) packages+=("${container_packages[@]}") ;;
  --kernels) packages+=("${kernels_packages[@]}") ;;
  --nethernet) packages+=("${nethernet_packages[@]}") ;;
  --package) packages=("${cmake_packages[@]}") ;;
  --programs) packages+=("${programs_packages[@]}") ;;
  *)
    echo "usage: $0 [--ci | --bench | --cmake-all-tests | --cmake-tests [ARCHITECTURE] |" \
      "--container | --fuzz | --kernels | --nethernet | --package | --programs]" >&2
    exit 2
    ;;
esac

is_installed() {  # PACKAGE[|PACKAGE...]
  local name
  for name in ${1//|/ }; do
    if [[ "$(dpkg-query --show --showformat='${db:Status-Status}' "$name" \
      2> /dev/null)" == installed ]]; then
      return 0
    fi
  done
  return 1
}

first_that_exists() {  # PACKAGE[|PACKAGE...]
  local name
  for name in ${1//|/ }; do
    # Not grep -q, which ends before apt-cache has written all.
    if apt-cache policy "$name" | grep 'Candidate: [0-9]' > /dev/null; then
      break
    fi
  done
  echo "$name"
}

missing=()
for package in "${packages[@]}"; do
  is_installed "$package" || missing+=("$package")
done
if [[ ${#missing[@]} -eq 0 ]]; then exit 0; fi

as_root=()
if [[ "$(id -u)" -ne 0 ]]; then as_root=(sudo); fi

# A package must not start a service of its own: the tests and the demo start
# their redis-server themselves (invoke-rc.d(8), policy-rc.d).
policy=/usr/sbin/policy-rc.d
policy_is_ours=no
log="$(mktemp)"
clean_up() {
  rm -f "$log"
  if [[ "$policy_is_ours" == yes ]]; then "${as_root[@]}" rm -f "$policy"; fi
}
trap clean_up EXIT

apt_get() {
  if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -qq -o DPkg::Lock::Timeout=300 "$@" < /dev/null > "$log" 2>&1; then
    cat "$log" >&2
    echo "$0: apt-get $1 failed" >&2
    exit 1
  fi
}

echo "Installing ${missing[*]}" >&2
if [[ ! -e "$policy" ]]; then
  policy_is_ours=yes
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" > /dev/null
  "${as_root[@]}" chmod 755 "$policy"
fi
apt_get update
chosen=()
for package in "${missing[@]}"; do
  chosen+=("$(first_that_exists "$package")")
done
apt_get install --yes --no-install-recommends "${chosen[@]}"
if [[ " ${missing[*]} " == *" redis-server "* && -d /run/systemd/system ]]; then
  "${as_root[@]}" systemctl --quiet disable redis-server || true
fi
