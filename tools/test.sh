#!/usr/bin/env bash
# Installs what is missing and runs all tests.
#
#   tools/test.sh [options of bazel test]    for example --config=asan-tests
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
"$root/tools/install_deps.sh"
cd "$root"
# First all is built, so that no test competes with a compiler. What fails here is
# reported again by the second command.
echo "Building all tests; the first time takes several minutes" >&2
status=0
bazel build //... "$@" || status=$?
if [[ "$status" -eq 8 ]]; then exit "$status"; fi  # interrupted
# Most tests wait rather than compute.
at_once=$((2 * $(nproc)))
exec bazel test //... --jobs="$at_once" --local_cpu_resources="$at_once" "$@"
