#!/usr/bin/env bash
# bench.py --scale measures with few sessions and reports.
#
#   scale_smoke_test.sh BENCH_PY
set -euo pipefail

export TMPDIR="$TEST_TMPDIR"
out="$TEST_TMPDIR/out"
timeout 250 /usr/bin/python3 -B "$1" --scale --bin . --out "$out" --quick \
  --seconds 0.3 --sessions 700 --live 20 --window 0.5 --storm 150 \
  --newcomers 300

# A row of every storm, and of both sizes where there can be a namespace.
figure='[0-9,.]+ \[[0-9,.]+\]'
for storm in created expired disconnected newcomers relayed; do
  grep -qE "^$storm +$figure +$figure +$figure " "$out/scale.txt"
done
if unshare --net true || unshare --user --net true; then
  for size in 500 700; do
    grep -qE "^$size clients +$figure +$figure " "$out/scale.txt"
  done
  sessions=2
else
  grep -q '^700 sessions left out: ' "$out/scale.txt"
  sessions=0
fi
/usr/bin/python3 - "$out" "$sessions" << 'END'
import json, sys
runs = json.load(open(sys.argv[1] + "/scale.json"))["runs"]
assert len(runs) == 5 + int(sys.argv[2]), len(runs)
for run in runs:
    if "clients" in run:
        assert run["replies"] > 0 and run["descriptors"] >= run["clients"], run
        continue
    assert run["quiet"]["sent"] > 0 and run["stormy"]["sent"] > 0, run
    storm = run["storm"]
    # The control sends at a rate, and may come to one more or less.
    more = storm["sent"] - run["count"]
    assert more == 0 or (run["kind"] == "relayed" and abs(more) <= 1), run
    assert storm["lost"] == 0, run
    if run["kind"] in ("expired", "disconnected"):
        assert storm["ended"] >= run["count"], run
    if run["kind"] == "disconnected":
        assert storm["created"] == run["count"], run
END
