#!/usr/bin/env bash
# Installs what is missing, builds the simulation of a shard and runs it
# (testing/internal/simulation/).
#
#   tools/simulate.sh                     100,000 seeds, a minute or two
#   tools/simulate.sh --fleet             of a fleet that shares its sessions
#   tools/simulate.sh --seeds 5000000     so many
#   tools/simulate.sh --first-seed 123 --seeds 1
#                                         that one again
#
# Further options go to bazel, such as --config=asan. Exit status: 0 if no
# seed broke a rule, 2 for a bad option, 3 if one did; it is printed with its
# last events.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

usage() {
  echo "usage: $0 [--fleet] [--first-seed N] [--seeds N] [options of bazel test]" >&2
  exit 2
}

seeds=100000
first_seed=1
test=simulation_test
options=()
while [[ $# -gt 0 ]]; do
  case "$1" in
    --seeds | --first-seed)
      [[ "${2:-}" =~ ^[0-9]{1,15}$ ]] || usage
      if [[ "$1" == --seeds ]]; then seeds="$2"; else first_seed="$2"; fi
      shift
      ;;
    --fleet) test=fleet_simulation_test ;;
    -h | --help) usage ;;
    *) options+=("$1") ;;
  esac
  shift
done

"$root/tools/install_deps.sh"
cd "$root"
exec bazel test --config=opt --test_output=all --nocache_test_results \
  --test_timeout=86400 --test_env=UDPGATE_SIMULATION_SEEDS="$seeds" \
  --test_env=UDPGATE_SIMULATION_FIRST_SEED="$first_seed" "${options[@]}" \
  "//testing/internal/simulation:$test"
