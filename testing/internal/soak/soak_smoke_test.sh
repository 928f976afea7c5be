#!/usr/bin/env bash
# soak.py soaks for two rounds, checks a few sessions for leaks, and finds
# nothing. tools/soak.sh does the same for longer.
#
#   soak_smoke_test.sh SOAK_PY
set -euo pipefail

export TMPDIR="$TEST_TMPDIR"
out="$TEST_TMPDIR/out"
timeout 250 /usr/bin/python3 -B "$1" --bin . --out "$out" \
  --minutes 0.1 --sessions 20000 | tee "$TEST_TMPDIR/report"
grep -qE '^soak: [0-9]+ rounds, [0-9]+ faults, ' "$TEST_TMPDIR/report"
grep -qE '^leak check: [0-9,]+ sessions, ' "$TEST_TMPDIR/report"
/usr/bin/python3 - "$out/soak.json" << 'END'
import json, sys
document = json.load(open(sys.argv[1]))
assert not document["findings"], document
assert len(document["samples"]) >= 2, document
assert document["leak"]["sessions"] >= 20000, document
END
