#!/usr/bin/env bash
# Each way to restore sessions works, and every session keeps its port.
#
#   restore_benchmark_smoke_test.sh RESTORE_BENCHMARK
set -euo pipefail

output="$(timeout 250 "$1" 300)"
echo "$output"
for name in "before Start" "after standby" "while it runs"; do
  grep -q "^$name .* 300 on the same port, 0 on another" <<< "$output"
done
