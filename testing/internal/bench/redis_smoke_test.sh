#!/usr/bin/env bash
# bench.py --redis measures two kinds once and reports.
#
#   redis_smoke_test.sh BENCH_PY
set -euo pipefail

export TMPDIR="$TEST_TMPDIR"
out="$TEST_TMPDIR/out"
timeout 200 /usr/bin/python3 -B "$1" --redis --bin . --out "$out" --quick \
  --live 20 --newcomers 100 --window 4 --kinds failover,rotation

grep -qE '^failover +[0-9,]+ ' "$out/redis.txt"
/usr/bin/python3 - "$out/redis.json" << 'END'
import json, sys
runs = {run["kind"]: run for run in json.load(open(sys.argv[1]))["runs"]}
assert set(runs) == {"failover", "rotation"}, runs
for name, run in runs.items():
    for part in ("quiet", "stormy"):
        assert run[part]["sent"] > 0 and run[part]["lost"] == 0, (name, run)
    assert run["newcomers"]["sent"] == 400, (name, run)
assert runs["rotation"]["newcomers"]["lost"] == 0, runs["rotation"]
# Some newcomers had no Redis.
assert 0 < runs["failover"]["newcomers"]["lost"] < 400, runs["failover"]
END
