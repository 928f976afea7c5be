#!/usr/bin/env bash
# Installs what is missing, builds the gateway and measures it side by side with
# other gateways.
#
#   tools/bench.sh              about ten minutes; wants an idle machine
#   tools/bench.sh --quick      one short round, to see that it works
#   tools/bench.sh --scale      18,000 sessions, and thousands at once
#   tools/bench.sh --nethernet  joins of Bedrock players; for the last part the
#                               packages of tools/nethernet.sh must be there
#   tools/bench.sh --redis      Redis fails over, restarts and gets new passwords
#   tools/bench.sh --store      what the session store costs, and recovery
#   tools/bench.sh --tuning     what the settings that matter are worth
#   tools/bench.sh --help       what can be chosen
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
"$root/tools/install_deps.sh" --bench

in_workspace() {
  (cd "$root" && "$@" < /dev/null)
}
in_workspace bazel build --config=opt --ui_event_filters=-info \
  //cli:udp-gate //testing/internal/bench:echo //testing/internal/bench:load \
  //testing/internal/bench:newcomers //testing/internal/bench:signaling_load \
  //testing/internal/bench:signaling_stub //testing/internal/bench:slow_redis
bin="$(in_workspace bazel info --config=opt bazel-bin 2> /dev/null)"
exec /usr/bin/python3 -B "$root/testing/internal/bench/bench.py" --bin "$bin" "$@"
