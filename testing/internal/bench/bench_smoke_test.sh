#!/usr/bin/env bash
# The load generator and the echo backend, against each other for a moment.
#
#   bench_smoke_test.sh ECHO LOAD
set -euo pipefail

coproc echo_backend { exec "$1"; }
pid="$echo_backend_PID"
trap 'kill "$pid"' EXIT
read -r -t 30 address <&"${echo_backend[0]}"

# check NAME OPTIONS...: every datagram must come back, and enough of them.
check() {
  local json sent
  json="$(timeout 60 "$load" --target "$address" --warmup 0.1 --seconds 0.3 \
    --drain 10 --check "${@:2}")"
  echo "$1: $json"
  sent="$(sed -n 's/.*"sent": \([0-9]*\).*/\1/p' <<< "$json")"
  [[ "$sent" -ge 100 ]]
}

load="$2"
check "closed loop" --clients 4 --window 2
check "open loop" --clients 10 --rate 2000 --size 64
check "bursts" --clients 5 --rate 4000 --burst 8 --size 1200 --cpu-pid $$

# A datagram that does not come back must be noticed.
kill -STOP "$pid"
if timeout 60 "$load" --target "$address" --clients 1 --window 1 --check; then
  echo "a silent backend went unnoticed" >&2
  exit 1
fi
kill -CONT "$pid"
