#!/usr/bin/env bash
# Builds the library, the program and the tests by CMake on Debian 13, in a folder
# made by debootstrap, and runs the unit tests and the end-to-end tests there.
#
#   tools/debian13.sh [--package FOLDER] [ROOT]
#
# As root. ROOT keeps the system between runs (default: a temporary one). --package:
# builds the Debian packages into FOLDER instead. Ends with 1 if a test fails.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
packages=
if [[ "${1:-}" == --package && $# -ge 2 ]]; then
  packages="$(realpath "$2")"
  shift 2
fi
if [[ $# -gt 1 || "${1:-}" == -* ]]; then
  echo "usage: $0 [--package FOLDER] [ROOT]" >&2
  exit 2
fi
tools/install_deps.sh --container
. tools/system_folder.sh

root="${1:-}"
if [[ -z "$root" ]]; then
  root="$(mktemp -d)"
  trap 'rm -rf "$root"' EXIT
fi
mkdir -p "$root"
root="$(realpath "$root")"
if [[ ! -e "$root/etc/debian_version" ]]; then
  echo "--- system"
  make_system trixie "$root"
fi
copy_source "$root"

echo "--- packages"
if [[ -n "$packages" ]]; then
  inside "$root" 'mkdir -p /packages; tools/package_deb.sh /packages'
  cp "$root"/packages/*.deb "$packages/"
  exit 0
fi
inside "$root" 'tools/install_deps.sh --cmake-tests'
echo "--- build"
inside "$root" 'cmake --preset package -B /build -D UDPGATE_TESTS=ON > /build.log 2>&1 \
  && cmake --build /build --parallel "$(nproc)" -- -k 0 >> /build.log 2>&1 || {
    grep -A20 FAILED: /build.log || tail -n 40 /build.log
    exit 1
  }'
echo "--- tests"
inside "$root" 'ctest --test-dir /build --parallel "$(nproc)" --output-on-failure'
