#!/usr/bin/env bash
# bench.py measures the gateway for a moment and reports.
#
#   compare_smoke_test.sh BENCH_PY
set -euo pipefail

export TMPDIR="$TEST_TMPDIR"
out="$TEST_TMPDIR/out"
timeout 250 /usr/bin/python3 -B "$1" --bin . --out "$out" --rounds 2 \
  --seconds 0.3 --warmup 0.1 --drain 0.3 --loads 20k,saturation@512 \
  --contenders direct,udpgate

# Of both loads a row with CPU and ratio, and no run that broke.
row='^udpgate +[0-9,]+ \[[0-9,]+\.\.[0-9,]+\] '
[[ "$(grep -cE "$row" "$out/report.txt")" -eq 2 ]]
grep -q '^  ....  20k: udpgate lost ' "$out/report.txt"
/usr/bin/python3 - "$out" << 'END'
import json, sys, xml.dom.minidom
xml.dom.minidom.parse(sys.argv[1] + "/plot.svg")
runs = json.load(open(sys.argv[1] + "/results.json"))["runs"]
assert len(runs) == 8, len(runs)
assert all(run["replies"] > 0 and run["corrupt"] == 0 for run in runs), runs
END

# What an earlier run left says the same again.
/usr/bin/python3 -B "$1" --bin . --from "$out" > "$TEST_TMPDIR/again.txt"
diff "$TEST_TMPDIR/again.txt" <(cat "$out/report.txt" && echo)

timeout 250 /usr/bin/python3 -B "$1" --bin . --out "$out" --rounds 1 \
  --seconds 0.3 --warmup 0.1 --drain 0.3 --tuning buffer
grep -qE '^RECEIVE_BUFFER_BYTES=1MiB +[0-9,]+ \[' "$out/tuning.txt"

# A contender that does not start is an error, not a figure.
if timeout 250 /usr/bin/python3 -B "$1" --bin . --out "$out" --rounds 1 \
  --seconds 0.1 --warmup 0.1 --loads 20k \
  --command 'broken=false {listen} {backend}' --contenders broken; then
  echo "a contender that ended went unnoticed" >&2
  exit 1
fi
grep -q '^BROKE: round 0, 20k, broken: the contender ended' "$out/report.txt"
