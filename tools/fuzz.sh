#!/usr/bin/env bash
# Installs what is missing, builds the fuzz targets with clang's libFuzzer,
# address and undefined-behaviour sanitizers, and runs them one after the other.
#
#   tools/fuzz.sh                        all targets, 30 seconds each
#   tools/fuzz.sh redis_reply dotenv     these: names of testing/internal/fuzz/corpus/
#   tools/fuzz.sh --seconds 3600 dotenv  for an hour
#
# Begins with the inputs of testing/internal/fuzz/corpus/ and those that earlier runs
# found. What it finds stays in .fuzz/TARGET/ of the workspace: corpus/ has the
# inputs that reach something new, findings/ those that break a rule. Exit
# status: 0 if nothing broke, 1 if something did, 2 for a bad option.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
seeds="$root/testing/internal/fuzz/corpus"
work="$root/.fuzz"

usage() {
  echo "usage: $0 [--seconds N] [TARGET...]; the targets are:" $(ls "$seeds") >&2
  exit 2
}

seconds=30
targets=()
while [[ $# -gt 0 ]]; do
  case "$1" in
    --seconds)
      [[ "${2:-}" =~ ^[1-9][0-9]{0,6}$ ]] || usage
      seconds="$2"
      shift
      ;;
    *)
      [[ "$1" =~ ^[a-z0-9_]+$ && -d "$seeds/$1" ]] || usage
      targets+=("$1")
      ;;
  esac
  shift
done
if [[ ${#targets[@]} -eq 0 ]]; then mapfile -t targets < <(ls "$seeds"); fi

"$root/tools/install_deps.sh" --fuzz

in_workspace() {
  (cd "$root" && "$@" < /dev/null)
}
labels=("${targets[@]/#/\/\/testing\/internal\/fuzz:}")
in_workspace bazel build --config=fuzz --ui_event_filters=-info \
  --show_result=0 \
  "${labels[@]/%/_fuzz}"
bin="$(in_workspace bazel info --config=fuzz bazel-bin 2> /dev/null)"

# libFuzzer ends a run at one input that takes longer than 10 s, at 256 MiB
# asked for at once, and at 2 GiB in all (https://llvm.org/docs/LibFuzzer.html).
fuzz() {  # TARGET
  local target="$1"
  local here="$work/$target"
  mkdir -p "$here/corpus" "$here/findings"
  local status=0
  "$bin/testing/internal/fuzz/${target}_fuzz" -max_total_time="$seconds" \
    -timeout=10 -malloc_limit_mb=256 -rss_limit_mb=2048 -max_len=4096 \
    -artifact_prefix="$here/findings/" -print_final_stats=1 \
    "$here/corpus" "$seeds/$target" < /dev/null > "$here/log" 2>&1 || status=$?
  local runs
  runs="$(sed -n 's/^stat::number_of_executed_units: *//p' "$here/log")"
  if [[ "$status" -eq 0 ]]; then
    echo "$target: $runs inputs in $seconds s, nothing broke"
    return 0
  fi
  tail -n 60 "$here/log"
  echo "$target: broke (status $status); see $here/log and $here/findings/"
  echo "  again: $bin/testing/internal/fuzz/${target}_fuzz FILE"
  return 1
}

broken=0
for target in "${targets[@]}"; do
  fuzz "$target" || broken=1
done
echo "inputs and findings: $work"
exit "$broken"
