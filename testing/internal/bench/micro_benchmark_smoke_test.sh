#!/usr/bin/env bash
# Every micro-benchmark runs, for a moment, without an error.
#
#   micro_benchmark_smoke_test.sh MICRO_BENCHMARK
set -euo pipefail

output="$(timeout 250 "$1" --benchmark_min_time=0.001 2>&1)"
echo "$output"
for name in ClientHashOfAddress SessionTableFind/20000 \
  SessionTableEraseInsert/20000 InboxPushPeekPop/64 SendBatchAssemble/64 \
  BatchOverLoopback/64; do
  grep -q "^$name .* ns " <<< "$output"
done
if grep -q "ERROR OCCURRED" <<< "$output"; then exit 1; fi
