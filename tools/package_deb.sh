#!/usr/bin/env bash
# Builds the Debian packages udp-gate, libudpgate0 and libudpgate-dev, for the
# release of Debian that it runs on, and prints their paths.
#
#   tools/package_deb.sh [--program] [FOLDER]
#
# FOLDER: the working directory if none is given. --program: udp-gate alone.
set -euo pipefail

only_program=no
if [[ "${1:-}" == --program ]]; then
  only_program=yes
  shift
fi
if [[ $# -gt 1 || "${1:-}" == -* ]]; then
  echo "usage: $0 [--program] [FOLDER]" >&2
  exit 2
fi
folder="$(realpath "${1:-.}")"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
./tools/install_deps.sh --package

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
if command -v ccache > /dev/null; then
  # The shared libraries are made of the same code as the static ones.
  export CMAKE_CXX_COMPILER_LAUNCHER=ccache CCACHE_BASEDIR="$work"
  export CCACHE_DIR="${CCACHE_DIR:-$work/ccache}" CCACHE_NOHASHDIR=true
  export CCACHE_SLOPPINESS=pch_defines,time_macros
fi

build() {  # TARGET FOLDER OPTION...
  cmake --preset package -B "$2" -D CMAKE_INSTALL_PREFIX=/usr "${@:3}" \
    && cmake --build "$2" --target "$1" --parallel "$(nproc)"
}

quietly() {
  "$@" > "$work/log" 2>&1 || {
    grep -A20 'FAILED:' "$work/log" >&2 || tail -n 40 "$work/log" >&2
    exit 1
  }
}

# The program has the libraries within, so that it can be replaced alone.
quietly build udp-gate "$work/static"
./deploy/debian/build_package.sh "$work/static/udp-gate" "$folder"
if [[ "$only_program" == yes ]]; then exit 0; fi
quietly build all "$work/static"
quietly build all "$work/shared" -D BUILD_SHARED_LIBS=ON -D UDPGATE_PROGRAM=OFF
./deploy/debian/build_library_packages.sh "$work/static" "$work/shared" "$folder"
