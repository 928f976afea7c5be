#!/usr/bin/env bash
# bench.py --store measures with few sessions and reports.
#
#   store_smoke_test.sh BENCH_PY
set -euo pipefail

export TMPDIR="$TEST_TMPDIR"
out="$TEST_TMPDIR/out"
timeout 250 /usr/bin/python3 -B "$1" --store --bin . --out "$out" --quick \
  --seconds 1.5 --newcomers 300 --sessions 50,100

grep -qE '^newcomers a second +[0-9,]+ ' "$out/store.txt"
grep -q '</svg>' "$out/recovery.svg"
/usr/bin/python3 - "$out/store.json" << 'END'
import json, sys
runs = json.load(open(sys.argv[1]))["runs"]
assert len(runs) == 3 * 2 + 2 + 2, len(runs)
for run in runs:
    assert "error" not in run, run
    if run["kind"] == "recovery":
        # All but those that only saw whether the gateway was there.
        assert run["continued"] >= run["sessions"] - 1, run
        assert run["lost"] == run["on_other_port"] == 0, run
    elif run["kind"] == "newcomers":
        assert run["clients"] == 300, run
    else:
        assert run["replies"] > 0, run
        assert (run["records"] > 0) == (run["of"] == "on"), run
END
