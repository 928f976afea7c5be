#!/usr/bin/env bash
# Installs what is missing, builds the gateway and runs real programs through it,
# beside the same programs without it: QUIC, SRT, CoAP, RakNet, WebRTC, Minetest,
# kcptun, WireGuard, iperf3, between network namespaces. Needs root.
#
#   tools/programs.sh                    all of them, some five minutes
#   tools/programs.sh --only srt         one; may be repeated
#   tools/programs.sh --runs 1           once each way, instead of five times
#   tools/programs.sh --ratio-max 3      allows three times the direct duration
#   tools/programs.sh --gate PATH        another build of udp-gate
#   tools/programs.sh --set NAME=VALUE   another setting of the gateway
#   tools/programs.sh --help             what else can be chosen
#
# Exit status: 0 if all targets are met, 1 if not, 77 if network
# namespaces are not allowed.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
"$root/tools/install_deps.sh" --programs
"$root/tools/install_peers.sh"

in_workspace() {
  (cd "$root" && "$@" < /dev/null)
}
targets=(//testing/internal/programs:delay)
bin="$(in_workspace bazel info --config=opt bazel-bin 2> /dev/null)"
gate=()
# A gateway that is named need not be built.
if [[ " $* " != *" --gate"[\ =]* ]]; then
  targets+=(//cli:udp-gate)
  gate=(--gate "$bin/cli/udp-gate")
fi
in_workspace bazel build --config=opt --ui_event_filters=-info "${targets[@]}"
exec /usr/bin/python3 -B "$root/testing/internal/programs/programs.py" \
  --delay "$bin/testing/internal/programs/delay" "${gate[@]}" "$@"
