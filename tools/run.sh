#!/usr/bin/env bash
# Installs what is missing, builds the gateway and runs it.
#
#   tools/run.sh [options of udp-gate]   runs in the current directory, so that
#                                        its .env is read
#   tools/run.sh --demo                  shows the gateway at work, with a Redis,
#                                        game servers and clients of its own
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
"$root/tools/install_deps.sh"

# bazel in the workspace, quiet unless it fails.
bazel_quietly() {
  local log
  log="$(mktemp)"
  if ! (cd "$root" && bazel "$@" < /dev/null 2> "$log"); then
    cat "$log" >&2
    rm -f "$log"
    exit 1
  fi
  rm -f "$log"
}

targets=(//cli:udp-gate)
if [[ "${1:-}" == --demo ]]; then targets+=(//examples:demo); fi

bin="$(bazel_quietly info --config=opt bazel-bin)"
if [[ ! -x "$bin/cli/udp-gate" ]]; then
  echo "Building udp-gate; the first time takes a few minutes." >&2
fi
bazel_quietly build --config=opt "${targets[@]}"

if [[ "${1:-}" == --demo ]]; then
  shift
  exec "$bin/examples/demo" --gate="$bin/cli/udp-gate" "$@"
fi
exec "$bin/cli/udp-gate" "$@"
