#!/usr/bin/env bash
# Installs what is missing, builds the gateway and floods it with forged new
# clients while others play. Needs root, or CAP_NET_RAW, for raw sockets.
#
#   tools/flood.sh               30 s of flood, 50,000 clients a second
#   tools/flood.sh --seconds 5   a shorter one
#   tools/flood.sh --help        what can be chosen
#
# Exit status: 0 if all targets are met, 1 if not, 77 if raw sockets
# are not allowed.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
"$root/tools/install_deps.sh"

in_workspace() {
  (cd "$root" && "$@" < /dev/null)
}
in_workspace bazel build --config=opt --ui_event_filters=-info \
  //cli:udp-gate //testing/internal/bench:echo //testing/internal/bench:flood \
  //testing/internal/bench:load
bin="$(in_workspace bazel info --config=opt bazel-bin 2> /dev/null)"
exec /usr/bin/python3 -B "$root/testing/internal/bench/flood.py" --bin "$bin" "$@"
