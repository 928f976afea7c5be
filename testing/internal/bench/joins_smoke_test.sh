#!/usr/bin/env bash
# bench.py --nethernet measures a few joins and reports.
#
#   joins_smoke_test.sh BENCH_PY
set -euo pipefail

export TMPDIR="$TEST_TMPDIR"
out="$TEST_TMPDIR/out"
timeout 100 /usr/bin/python3 -B "$1" --nethernet --bin . --out "$out" --quick \
  --joins 100 --live 20 --rate 500 --no-push

grep -qE '^joins a second +[0-9]+ ' "$out/joins.txt"
/usr/bin/python3 - "$out/joins.json" << 'END'
import json, sys
runs = json.load(open(sys.argv[1]))["runs"]
assert [run["kind"] for run in runs] == ["pair", "media"], runs
pair, media = runs
joins = pair["stormy"]["joins"]
# 3 s of them.
assert joins["joined"] == 300 and joins["failed"] == 0, joins
assert 0 < joins["answer_p50_ns"] <= joins["answer_p99_ns"], joins
for run in (pair["quiet"], pair["stormy"], media["ordinary"], media["joined"]):
    assert run["sent"] > 0 and run["replies"] > 0, run
END
