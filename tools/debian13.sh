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

root="${1:-}"
if [[ -z "$root" ]]; then
  root="$(mktemp -d)"
  trap 'rm -rf "$root"' EXIT
fi
mkdir -p "$root"
root="$(realpath "$root")"
if [[ ! -e "$root/etc/debian_version" ]]; then
  echo "--- base system"
  debootstrap --variant=minbase --include=ca-certificates trixie "$root" \
    http://deb.debian.org/debian > "$root.log" 2>&1 || {
    tail -n 20 "$root.log" >&2
    exit 1
  }
  rm "$root.log"
  # The same options as this machine's.
  cp /etc/apt/apt.conf.d/* "$root/etc/apt/apt.conf.d/"
fi
rm -rf "$root/source"
mkdir "$root/source"
git -c safe.directory="$PWD" ls-files -z --cached --others --exclude-standard \
  | tar --create --null --files-from=- --ignore-failed-read \
  | tar --extract --directory="$root/source"

# Its own processes and mounts, so that nothing is left behind.
inside() {  # SCRIPT
  unshare --fork --pid --mount --kill-child bash -euc '
    root="$1"
    mount --make-rprivate /
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    for name in sys dev; do mount --rbind "/$name" "$root/$name"; done
    mount -t tmpfs tmpfs "$root/run"
    mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
    cd "$root/source"
    exec chroot "$root" bash -euo pipefail -c "cd /source; $2"
  ' bash "$root" "$1"
}

echo "--- packages"
if [[ -n "$packages" ]]; then
  inside 'mkdir -p /packages; tools/package_deb.sh /packages'
  cp "$root"/packages/*.deb "$packages/"
  exit 0
fi
inside 'tools/install_deps.sh --cmake-tests'
echo "--- build"
inside 'cmake --preset package -B /build -D UDPGATE_TESTS=ON > /build.log 2>&1 \
  && cmake --build /build --parallel "$(nproc)" -- -k 0 >> /build.log 2>&1 || {
    grep -A20 FAILED: /build.log || tail -n 40 /build.log
    exit 1
  }'
echo "--- tests"
inside 'ctest --test-dir /build --parallel "$(nproc)" --output-on-failure'
