#!/usr/bin/env bash
# Installs what is missing, builds the gateway and lets real WebRTC stacks join
# through it, as players and as servers of NetherNet: libwebrtc, libdatachannel and
# werift, between network namespaces. Needs root.
#
#   tools/nethernet.sh                   all of it, some three minutes
#   tools/nethernet.sh --phase pairs     a part of it; may be repeated
#   tools/nethernet.sh --direct          without the gateway
#   tools/nethernet.sh --phase push      how long a server's 256 KiB take, beside
#                                        the time without the gateway
#   tools/nethernet.sh --gate PATH       another build of udp-gate
#   tools/nethernet.sh --set NAME=VALUE  another setting of the gateway
#   tools/nethernet.sh --help            what else can be chosen
#
# Exit status: 0 if all targets are met, 1 if not, 77 if network
# namespaces are not allowed.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
"$root/tools/install_deps.sh" --nethernet
"$root/tools/install_peers.sh"

in_workspace() {
  (cd "$root" && "$@" < /dev/null)
}
gate=()
# A gateway that is named need not be built.
if [[ " $* " != *" --gate"[\ =]* && " $* " != *" --direct "* ]]; then
  in_workspace bazel build --config=opt --ui_event_filters=-info //cli:udp-gate
  gate=(--gate "$(in_workspace bazel info --config=opt bazel-bin 2> /dev/null)/cli/udp-gate")
fi
exec /usr/bin/python3 -B "$root/testing/internal/nethernet/nethernet.py" \
  "${gate[@]}" "$@"
