#!/usr/bin/env bash
# Builds the package, unpacks it, and runs the gateway from it. upgrade_test.py
# installs it.
#
#   package_test.sh UDP_GATE
set -euo pipefail

for tool in dpkg-shlibdeps dpkg-deb; do
  if ! command -v "$tool" > /dev/null; then
    echo "there is no $tool" >&2
    [[ "${CI:-}" != true ]]
    exit
  fi
done

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

folder="$(mktemp -d)"
gate_pid=
clean_up() {
  if [[ -n "$gate_pid" ]]; then kill -KILL "$gate_pid" || true; fi
  rm -rf "$folder"
}
trap clean_up EXIT

package="$(deploy/debian/build_package.sh "$1" "$folder")"
[[ -f "$package" ]] || fail "no package"

field() { dpkg-deb --field "$package" "$1"; }
[[ "$(field Package)" == udp-gate ]] || fail "its name is $(field Package)"
for library in libabsl libc-ares2 libhiredis libspdlog libsystemd0; do
  [[ "$(field Depends)" == *"$library"* ]] \
    || fail "no $library in: $(field Depends)"
done
contents="$(dpkg-deb --contents "$package")"
for path in usr/bin/udp-gate lib/systemd/system/udp-gate.service \
  usr/lib/sysctl.d/90-udp-gate.conf etc/udp-gate/udp-gate.env usr/share/doc/udp-gate/README.md \
  usr/share/doc/udp-gate/docs/index.md usr/share/doc/udp-gate/docs/overview.svg \
  usr/share/doc/udp-gate/udpgate/admin/README.md usr/share/doc/udp-gate/SECURITY.md \
  usr/share/man/man8/udp-gate.8.gz usr/share/doc/udp-gate/copyright \
  usr/share/doc/udp-gate/changelog.gz \
  usr/share/doc/udp-gate/examples/keepalived.conf; do
  grep -q " root/root .* \./$path$" <<< "$contents" || fail "no $path"
done

# run_gate UDP_GATE ENVIRONMENT_FILE: it starts with the settings that the
# package has, and ends.
run_gate() {
  [[ "$("$1" --version)" == "udp-gate $(field Version)" ]] || fail "version"
  cp "$2" "$folder/.env"
  # Else the last run's would be read before this one has its own.
  : > "$folder/log"
  (cd "$folder" && exec "$1" --proxy-addr 127.0.0.1:0 \
    --backend-addr 127.0.0.1:9) 2>> "$folder/log" &
  gate_pid=$!
  local tries
  for ((tries = 0; tries < 400; ++tries)); do
    if grep -q "listening on 127.0.0.1:" "$folder/log"; then break; fi
    sleep 0.05
  done
  grep -q "listening on 127.0.0.1:" "$folder/log" \
    || fail "$(cat "$folder/log")"
  kill -TERM "$gate_pid"
  wait "$gate_pid" || fail "status $?: $(cat "$folder/log")"
  gate_pid=
}

dpkg-deb --extract "$package" "$folder/root"
# As much as the gateway asks for, each way.
wanted="$(sed -n 's/^RECEIVE_BUFFER_BYTES=//p' .env.example)"
for direction in rmem wmem; do
  grep -q "^net.core.${direction}_max = $wanted$" \
    "$folder/root/usr/lib/sysctl.d/90-udp-gate.conf" \
    || fail "no net.core.${direction}_max = $wanted"
done
# Each setting is in the man page.
variables=0
while IFS= read -r variable; do
  zgrep -q "^\.B $variable\b" "$folder/root/usr/share/man/man8/udp-gate.8.gz" \
    || fail "the man page lacks $variable"
  variables=$((variables + 1))
done < <(sed -nE 's/^(# )?([A-Z_]+)=.*/\2/p' .env.example)
[[ "$variables" -gt 40 ]] || fail "$variables settings"

run_gate "$folder/root/usr/bin/udp-gate" \
  "$folder/root/etc/udp-gate/udp-gate.env"

echo "the package works"
