#!/usr/bin/env bash
# Every row of the benchmark of the session store is there; it times nothing.
#
#   session_store_benchmark_smoke_test.sh SESSION_STORE_BENCHMARK
set -euo pipefail

output="$(timeout 250 "$1" 500)"
echo "$output"
for row in 'write, 128 a call' 'write again, 128 a call' 'write, 1 a call' \
  'refresh, 128 a call' 'find, 1 a call' 'find, 16 a call' \
  'find, 128 a call' list 'list clients' 'adopt, 128 a call' \
  'remove, 128 a call' 'remove, 1 a call'; do
  grep -Eq "^$row +[0-9]+ +[0-9]+ +[0-9.]+ +[0-9.]+ " <<< "$output"
done
grep -q '^500 records, [0-9]* bytes of Redis each' <<< "$output"
for players in 10000 100000 1000000; do
  grep -Eq "^$players +[0-9]+ +[0-9]+ +[0-9]+ +[0-9.]+ % +[0-9]+\$" <<< "$output"
done
