#!/usr/bin/env bash
# Writes the parts of docs/ that are generated from the code's own tables:
# settings, metrics, reasons, and the man page udp-gate(8). The tests compare
# them (//docs:pages_test).
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
"$root/tools/install_deps.sh"
cd "$root"
bazel build --ui_event_filters=-info //docs:tables
tables="$(bazel info bazel-bin 2> /dev/null)/docs/tables"
exec /usr/bin/python3 -B docs/pages.py --update "$tables"
