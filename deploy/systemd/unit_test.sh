#!/usr/bin/env bash
# systemd finds nothing to complain about in the units, and little that the
# service could do to the machine.
#
#   unit_test.sh UDP_GATE FOLDER_OF_UNITS
set -euo pipefail

gate="$(realpath "$1")"
units="$2"

if ! command -v systemd-analyze > /dev/null; then
  echo "there is no systemd-analyze" >&2
  [[ "${CI:-}" != true ]]
  exit
fi

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
# The program lies elsewhere here.
sed "s|^ExecStart=/usr/bin/udp-gate|ExecStart=$gate|" \
  "$units/udp-gate.service" > "$folder/udp-gate.service"
grep -q "^ExecStart=$gate " "$folder/udp-gate.service" || fail "no ExecStart"
cp "$units/udp-gate.socket" "$folder"

# verify_is_silent: systemd-analyze names each unknown key, value and file.
verify_is_silent() {
  local output
  output="$(systemd-analyze verify --man=no "$folder/udp-gate.socket" \
    "$folder/udp-gate.service" 2>&1)" || fail "$output"
  # Units of the machine may have faults of their own.
  if grep "udp-gate" <<< "$output"; then fail "$output"; fi
}

verify_is_silent

# A start that fails is tried again, for as long as it takes, and a gateway that
# waits for its address is no start that hangs.
for line in Type=notify Restart=on-failure RestartSec=2 \
  StartLimitIntervalSec=0 TimeoutStartSec=60; do
  grep -qx "$line" "$units/udp-gate.service" || fail "no $line"
done

exposure() {
  systemd-analyze security --offline=true --no-pager --threshold="$1" \
    "$folder/udp-gate.service"
}
# 2.0 of 10, where 10 is everything.
exposure 20 > "$folder/exposure" || fail "$(cat "$folder/exposure")"

mkdir "$folder/udp-gate.service.d"
cp "$units/fast-path.conf" "$units/crash-recovery.conf" \
  "$folder/udp-gate.service.d"
verify_is_silent

# The test sees what is wrong.
echo "ProtectEverything=yes" >> "$folder/udp-gate.service.d/fast-path.conf"
if (verify_is_silent) 2> /dev/null > /dev/null; then
  fail "an unknown key was not found"
fi
echo "the units are valid"
