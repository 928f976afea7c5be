#!/usr/bin/env bash
# flood.py floods a little and reports, or says that it may not: in its usual
# shape, with forgers that send several datagrams, and where source ports are
# what runs out first.
#
#   flood_smoke_test.sh FLOOD_PY
set -euo pipefail

export TMPDIR="$TEST_TMPDIR"

# Leaves its report in $TEST_TMPDIR/$1.
flood() {
  local out="$TEST_TMPDIR/$1" flood_py="$2" status=0
  shift 2
  timeout 60 /usr/bin/python3 -B "$flood_py" --bin . --out "$out" --seconds 1 \
    --rate 2000 --live 10 --quiet-seconds 0.5 "$@" > "$TEST_TMPDIR/said" ||
    status=$?
  cat "$TEST_TMPDIR/said"
  if [[ $status -eq 77 ]]; then
    grep -q 'raw sockets are not allowed' "$TEST_TMPDIR/said"
    exit 0
  fi
  # 1 where a target is missed: this machine may be busy.
  [[ $status -le 1 ]]
}

flood usual "$1"
/usr/bin/python3 - "$TEST_TMPDIR/usual/flood.json" << 'END'
import json, re, sys
document = json.load(open(sys.argv[1]))
run = document["run"]
assert run["quiet"]["sent"] > 0 and run["stormy"]["sent"] > 0, run
sent = run["flood"]["sent"]
assert sent > 100 and run["flood"]["errors"] == 0, run
created = int(re.search(r"stopped: (\d+) sessions created", run["last_words"][0])[1])
# Nearly every datagram came from a client of its own.
assert 0.9 * sent < created <= sent + 100, run
assert len(document["targets"]) == 8, document
END

# Whichever limit is reached first, live clients stay and new ones are served.
flood ports "$1" --source-ports 500
flood four "$1" --source-ports 300 --datagrams 4 --gap-ms 50
/usr/bin/python3 - "$TEST_TMPDIR/ports/flood.json" \
  "$TEST_TMPDIR/four/flood.json" << 'END'
import json, re, sys
for path in sys.argv[1:]:
    run = json.load(open(path))["run"]
    words = " ".join(run["last_words"])
    sent = run["flood"]["sent"]
    created = int(re.search(r"stopped: (\d+) sessions created", words)[1])
    evicted = int(re.search(r" evicted (\d+)", words)[1])
    assert sent > 1000 and evicted > 0, run
    assert "no_upstream_socket" not in words, run
    assert None not in run["newcomers"], run
    if "/four/" in path:
        # One that was evicted before its last datagram begins another one.
        assert sent / 4 < created < 0.9 * sent, run
END
