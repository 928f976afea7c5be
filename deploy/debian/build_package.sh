#!/usr/bin/env bash
# Puts a binary of the gateway into a Debian package; tools/package_deb.sh calls it.
#
#   deploy/debian/build_package.sh UDP_GATE FOLDER
#
# from the top of the source tree. Prints the path of the package.
set -euo pipefail

if [[ $# -ne 2 ]]; then
  echo "usage: $0 UDP_GATE FOLDER" >&2
  exit 2
fi
binary="$(realpath "$1")"
folder="$(realpath "$2")"

version="$(sed -n \
  's/^#define UDPGATE_VERSION_STRING "\(.*\)"$/\1/p' udpgate/version.h)"
architecture="$(dpkg --print-architecture)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
umask 022

root="$work/root"
doc="$root/usr/share/doc/udp-gate"
install -D -m 755 "$binary" "$root/usr/bin/udp-gate"
strip --strip-unneeded "$root/usr/bin/udp-gate"
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
# Without a time stamp, so that the same source gives the same file.
gzip --best --no-name --stdout docs/udp-gate.8 > "$man"
install -D -m 644 LICENSE "$doc/copyright"
for example in systemd/crash-recovery.conf systemd/fast-path.conf \
  keepalived/keepalived.conf; do
  install -D -m 644 "deploy/$example" "$doc/examples/${example#*/}"
done

# The packages whose libraries the binary needs, with their least versions.
mkdir -p "$work/source/debian"
printf 'Source: udp-gate\n\nPackage: udp-gate\nArchitecture: any\n' \
  > "$work/source/debian/control"
depends="$(cd "$work/source" \
  && dpkg-shlibdeps -O "$root/usr/bin/udp-gate" 2> "$work/log")" || {
  cat "$work/log" >&2
  exit 1
}
depends="${depends#shlibs:Depends=}"

install -d "$root/DEBIAN"
cat > "$root/DEBIAN/control" << EOF
Package: udp-gate
Version: $version
Architecture: $architecture
Maintainer: The udpgate authors <udpgate@localhost>
Installed-Size: $(du --summarize --block-size=1K "$root" | cut -f 1)
Depends: $depends, ca-certificates, procps
Suggests: redis-server
Section: net
Priority: optional
Description: UDP gateway for game servers
 Forwards each client's datagrams to one backend, which Redis names when the
 client appears, until its session ends.
EOF
echo /etc/udp-gate/udp-gate.env > "$root/DEBIAN/conffiles"
for script in postinst prerm postrm; do
  install -m 755 "deploy/debian/$script" "$root/DEBIAN/$script"
done

package="$folder/udp-gate_${version}_$architecture.deb"
dpkg-deb --build --root-owner-group "$root" "$package" > /dev/null
echo "$package"
