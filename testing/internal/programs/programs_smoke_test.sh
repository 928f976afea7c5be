#!/usr/bin/env bash
# programs.py runs one program once each way, with and without delay, and
# reports; and it finds a gateway that forwards nothing. tools/programs.sh runs
# all programs.
#
#   programs_smoke_test.sh PROGRAMS_PY UDP_GATE DELAY
set -euo pipefail

if ! command -v coap-client-notls coap-server-notls > /dev/null; then
  echo "libcoap3-bin is missing: tools/install_deps.sh --programs" >&2
  if [[ "${CI:-}" != true ]]; then exit 0; fi
  exit 1
fi

export TMPDIR="$TEST_TMPDIR"
out="$TEST_TMPDIR/out"
programs() {
  timeout 100 /usr/bin/python3 -B "$programs_py" --gate "$gate" --delay "$delay" \
    --out "$out" --runs 1 --only coap "$@"
}
programs_py="$1"
gate="$2"
delay="$3"

# The time is not what is looked at: other tests' machines are busy.
status=0
programs --set UNCONFIRMED_REPLY_FACTOR=0 || status=$?
if [[ $status -eq 77 && "${CI:-}" != true ]]; then exit 0; fi
/usr/bin/python3 - "$out/programs.json" << 'END'
import json, sys
rows = json.load(open(sys.argv[1]))["rows"]
assert [(row["program"], row["rtt"]) for row in rows] == [("coap", 0), ("coap", 100)]
for row in rows:
    assert None not in row["gateway"] and not row["failures"], row
    assert row["dropped"] == 0, row
    # 20 blocks, a round trip each.
    for seconds in row["direct"] + row["gateway"]:
        assert seconds > 20 * row["rtt"] / 1000, row
END

status=0
programs --rtt 0 --set DENY_CIDRS=10.0.0.0/8 || status=$?
[[ $status -eq 1 ]]
grep -q 'FAIL  coap, RTT 0 ms: it ends as it should' "$out/programs.txt"
/usr/bin/python3 - "$out/programs.json" << 'END'
import json, sys
(row,) = json.load(open(sys.argv[1]))["rows"]
assert row["gateway"] == [None] and None not in row["direct"], row
# The program's words, and the gateway's.
for name in ("server", "client", "gateway"):
    assert f"\n  {name}: " in row["failures"][0], row
END
