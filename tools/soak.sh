#!/usr/bin/env bash
# Installs what is missing, builds the gateway and soaks it: clients come and go
# while Redis, backends and keys fail, and 100,000 short sessions. Nothing may
# grow, and nothing may be lost count of.
#
#   tools/soak.sh                two minutes, and the leak check
#   tools/soak.sh --minutes 60   an hour
#   tools/soak.sh --seed N       with the choices of an earlier soak
#   tools/soak.sh --help         what can be chosen
#
# Exit status: 0 if all is well, 1 if it is not.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
"$root/tools/install_deps.sh"

in_workspace() {
  (cd "$root" && "$@" < /dev/null)
}
in_workspace bazel build --config=opt --ui_event_filters=-info \
  //cli:udp-gate //testing/internal/bench:echo //testing/internal/bench:load
bin="$(in_workspace bazel info --config=opt bazel-bin 2> /dev/null)"
exec /usr/bin/python3 -B "$root/testing/internal/soak/soak.py" --bin "$bin" "$@"
