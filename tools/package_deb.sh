#!/usr/bin/env bash
# Builds a Debian package of the gateway, for the release of Debian that it runs
# on, and prints its path.
#
#   tools/package_deb.sh [FOLDER]    the working directory where none is given
set -euo pipefail

folder="$(realpath "${1:-.}")"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
./tools/install_deps.sh
bazel build --config=opt //cli:udp-gate >&2
binary="$(bazel info --config=opt bazel-bin 2> /dev/null)/cli/udp-gate"
./deploy/debian/build_package.sh "$binary" "$folder"
