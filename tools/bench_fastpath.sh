#!/usr/bin/env bash
# Installs what is missing, builds the gateway and measures its kernel fast path
# beside plain routing, NAT, nginx and sockets, between network namespaces, and
# what its eBPF program alone needs for a packet. Needs root.
#
#   tools/bench_fastpath.sh           some twelve minutes; wants an idle machine
#   tools/bench_fastpath.sh --quick   one short round, to see that it works
#   tools/bench_fastpath.sh --help    what can be chosen
#
# Exit status: 77 if namespaces are not allowed.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
"$root/tools/install_deps.sh" --bench

in_workspace() {
  (cd "$root" && "$@" < /dev/null)
}
in_workspace bazel build --config=opt --ui_event_filters=-info \
  //cli:udp-gate //testing/internal/bench:echo //testing/internal/bench:load \
  //testing/internal/bench:fast_path_benchmark
bin="$(in_workspace bazel info --config=opt bazel-bin 2> /dev/null)"
exec /usr/bin/python3 -B "$root/testing/internal/bench/fastpath.py" --bin "$bin" "$@"
