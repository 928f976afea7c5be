# What build_package.sh and build_library_packages.sh share; they source it, at the
# top of the source tree.
# shellcheck shell=bash

# Who builds packages for others names an address.
maintainer="${DEBFULLNAME:-The udpgate authors} <${DEBEMAIL:-udpgate@localhost}>"
architecture="$(dpkg --print-architecture)"

source_version() {
  sed -n 's/^#define UDPGATE_VERSION_STRING "\(.*\)"$/\1/p' udpgate/version.h
}

# install_documents ROOT PACKAGE VERSION: what each package has.
install_documents() {
  local doc="$1/usr/share/doc/$2"
  local overrides="$1/usr/share/lintian/overrides/$2"
  install -D -m 644 deploy/debian/copyright "$doc/copyright"
  # Without time stamps, so that the same source gives the same file.
  {
    echo "udpgate ($3) unstable; urgency=medium"
    printf '\n  * See CHANGELOG.md in the documentation of udp-gate.\n\n'
    echo " -- $maintainer  $(date --utc --rfc-email \
      --date="@${SOURCE_DATE_EPOCH:-$(stat --format=%Y CHANGELOG.md)}")"
  } | gzip --best --no-name > "$doc/changelog.gz"
  chmod 644 "$doc/changelog.gz"
  install -D -m 644 deploy/debian/lintian-overrides "$overrides"
  if [[ "$2" == udp-gate ]]; then
    cat deploy/debian/udp-gate.lintian-overrides >> "$overrides"
  fi
}

# shared_library_depends SHLIBS FOLDER FILE...: the packages whose libraries the
# files need, with their least versions. SHLIBS and FOLDER: the shlibs file of this
# source's own libraries, which are not asked for, and where they lie.
shared_library_depends() {
  local source depends
  source="$(mktemp -d)"
  mkdir "$source/debian"
  printf 'Source: udpgate\n\nPackage: udpgate\nArchitecture: any\n' \
    > "$source/debian/control"
  cp "$1" "$source/debian/shlibs.local"
  depends="$(cd "$source" && dpkg-shlibdeps -O -xlibudpgate0 -l"$2" "${@:3}" \
    2> "$source/log")" || {
    cat "$source/log" >&2
    rm -rf "$source"
    return 1
  }
  rm -rf "$source"
  echo "${depends#shlibs:Depends=}"
}

# control_file ROOT PACKAGE VERSION SECTION DEPENDS: of a package; the further
# fields and the description come from the standard input.
control_file() {
  install -d "$1/DEBIAN"
  {
    cat << EOF
Package: $2
Source: udpgate
Version: $3
Architecture: $architecture
Maintainer: $maintainer
Installed-Size: $(du --summarize --block-size=1K "$1" | cut -f 1)
Depends: $5
Section: $4
Priority: optional
EOF
    cat
  } > "$1/DEBIAN/control"
  (cd "$1" && find . -type f -not -path './DEBIAN/*' -not -path './etc/*' \
    -printf '%P\0' | LC_ALL=C sort -z | xargs -0 md5sum) > "$1/DEBIAN/md5sums"
  chmod 644 "$1"/DEBIAN/*
}

# build_deb ROOT FOLDER: prints the path of the package.
build_deb() {
  local name version package
  name="$(sed -n 's/^Package: //p' "$1/DEBIAN/control")"
  version="$(sed -n 's/^Version: //p' "$1/DEBIAN/control")"
  package="$2/${name}_${version}_$architecture.deb"
  dpkg-deb --build --root-owner-group "$1" "$package" > /dev/null
  echo "$package"
}
