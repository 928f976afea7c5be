#!/usr/bin/env bash
# Puts a binary of the gateway into a Debian package; tools/package_deb.sh calls it.
#
#   deploy/debian/build_package.sh UDP_GATE FOLDER [VERSION]
#
# from the top of the source tree. Prints the path of the package. VERSION is that
# of the source if none is given.
set -euo pipefail

if [[ $# -lt 2 || $# -gt 3 ]]; then
  echo "usage: $0 UDP_GATE FOLDER [VERSION]" >&2
  exit 2
fi
# shellcheck source=deploy/debian/package_functions.sh
source deploy/debian/package_functions.sh
binary="$(realpath "$1")"
folder="$(realpath "$2")"
version="${3:-$(source_version)}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
umask 022

root="$work/root"
doc="$root/usr/share/doc/udp-gate"
install -D -m 755 "$binary" "$root/usr/bin/udp-gate"
strip --strip-unneeded --remove-section=.comment "$root/usr/bin/udp-gate"
for unit in udp-gate.service udp-gate.socket; do
  install -D -m 644 "deploy/systemd/$unit" "$root/lib/systemd/system/$unit"
done
install -D -m 644 deploy/sysctl.d/90-udp-gate.conf \
  "$root/usr/lib/sysctl.d/90-udp-gate.conf"
# It may come to hold a password.
install -D -m 600 .env.example "$root/etc/udp-gate/udp-gate.env"
python3 -B docs/pages.py --install "$doc"
man="$root/usr/share/man/man8/udp-gate.8.gz"
install -d "${man%/*}"
gzip --best --no-name --stdout docs/udp-gate.8 > "$man"
for example in systemd/crash-recovery.conf systemd/fast-path.conf \
  keepalived/keepalived.conf; do
  install -D -m 644 "deploy/$example" "$doc/examples/${example#*/}"
done
install_documents "$root" udp-gate "$version"

depends="$(shared_library_depends /dev/null "$work" "$root/usr/bin/udp-gate")"
control_file "$root" udp-gate "$version" net \
  "$depends, ca-certificates, procps" << EOF
Suggests: redis-server
Description: UDP gateway for game servers
 Forwards each client's datagrams to one backend, which Redis names when the
 client appears, until its session ends. Any UDP protocol works.
EOF
echo /etc/udp-gate/udp-gate.env > "$root/DEBIAN/conffiles"
for script in postinst prerm postrm; do
  install -m 755 "deploy/debian/$script" "$root/DEBIAN/$script"
done
build_deb "$root" "$folder"
