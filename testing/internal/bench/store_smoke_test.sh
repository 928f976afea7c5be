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
        assert run["continued"] == run["sessions"], run
        assert run["lost"] == run["on_other_port"] == 0, run
    elif run["kind"] == "newcomers":
        assert run["clients"] == 300, run
    else:
        assert run["replies"] > 0, run
        assert (run["records"] > 0) == (run["of"] == "on"), run
END

# Recovery alone, as on a slow machine.
UDPGATE_TEST_TIMEOUT_FACTOR=2 timeout 100 /usr/bin/python3 -B "$1" --store --bin . \
  --out "$out" --quick --sessions 50,100 --only recovery
/usr/bin/python3 - "$out/store.json" << 'END'
import json, sys
document = json.load(open(sys.argv[1]))
assert [run["kind"] for run in document["runs"]] == ["recovery"] * 2, document
for run in document["runs"]:
    assert run.get("continued") == run["sessions"], run
    assert run["lost"] == run["on_other_port"] == 0, run
assert any("lost" in target["target"] and target["met"] for target in document["targets"])
END
