#!/usr/bin/env bash
# Installs what is missing and runs all tests.
#
#   tools/test.sh [options of bazel test]    for example --config=asan
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
"$root/tools/install_deps.sh"
cd "$root"
exec bazel test //... "$@"
