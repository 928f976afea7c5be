#!/usr/bin/env bash
# Puts the libraries into the Debian packages libudpgate0 and libudpgate-dev;
# tools/package_deb.sh calls it.
#
#   deploy/debian/build_library_packages.sh STATIC_BUILD SHARED_BUILD FOLDER
#
# from the top of the source tree, with two build folders of CMake, configured with
# CMAKE_INSTALL_PREFIX=/usr. Prints the paths of the packages.
set -euo pipefail

if [[ $# -ne 3 ]]; then
  echo "usage: $0 STATIC_BUILD SHARED_BUILD FOLDER" >&2
  exit 2
fi
# shellcheck source=deploy/debian/package_functions.sh
source deploy/debian/package_functions.sh
static="$(realpath "$1")"
shared="$(realpath "$2")"
folder="$(realpath "$3")"
version="$(source_version)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
umask 022

runtime="$work/runtime"
development="$work/development"
install_component() {  # BUILD COMPONENT ROOT
  DESTDIR="$3" cmake --install "$1" --strip --component "$2" > "$work/log" 2>&1 || {
    cat "$work/log" >&2
    exit 1
  }
}
install_component "$shared" runtime "$runtime"
install_component "$shared" development "$development"
# Policy asks for the static libraries, too. The CMake package names the shared ones.
libraries="$(dirname "$(find "$runtime" -name 'libudpgate_core.so.*' | head -n 1)")"
libraries="${libraries#"$runtime"}"
for archive in "$static"/libudpgate_*.a; do
  if [[ "$archive" == */libudpgate_program.a ]]; then continue; fi
  install -m 644 "$archive" "$development$libraries/"
  strip --strip-debug --enable-deterministic-archives \
    "$development$libraries/${archive##*/}"
done
find "$runtime$libraries" -name '*.so.*' -type f -exec chmod 644 {} +
soversion="${version%.*}"
next_minor="${version%%.*}.$((${soversion#*.} + 1))~"

doc="$development/usr/share/doc/libudpgate-dev"
for example in examples/*.cc; do
  install -D -m 644 "$example" "$doc/$example"
done
for file in examples/consumer/*.cc examples/consumer/*.h \
  examples/consumer/CMakeLists.txt examples/consumer/gateway_runs_test.sh; do
  install -D -m 644 "$file" "$doc/$file"
done
install_documents "$runtime" libudpgate0 "$version"
install_documents "$development" libudpgate-dev "$version"

mapfile -t files < <(find "$runtime$libraries" -name '*.so.*' -type f)
# What is linked with a library needs this minor version: the next one may change
# the interface.
for file in "${files[@]}"; do
  name="${file##*/}"
  echo "${name%%.so.*} $soversion libudpgate0 (>= $version), libudpgate0 (<< $next_minor)"
done | LC_ALL=C sort > "$work/shlibs"
depends="$(shared_library_depends "$work/shlibs" "$runtime$libraries" \
  "${files[@]}")"
control_file "$runtime" libudpgate0 "$version" libs "$depends" << EOF
Multi-Arch: same
Description: UDP gateway for game servers (libraries)
 A gateway within a program: clients are pinned to the backend that the program
 names. One library for each part; the core needs Abseil alone.
EOF
install -m 644 "$work/shlibs" "$runtime/DEBIAN/shlibs"
echo 'activate-noawait ldconfig' > "$runtime/DEBIAN/triggers"
chmod 644 "$runtime/DEBIAN/triggers"
build_deb "$runtime" "$folder"

# The .pc files ask for those that the libraries alone use, too.
control_file "$development" libudpgate-dev "$version" libdevel \
  "libudpgate0 (= $version), libabsl-dev, libbpf-dev, libc-ares-dev, libgmock-dev, libgtest-dev, libhiredis-dev, libssl-dev, prometheus-cpp-dev" << EOF
Multi-Arch: same
Suggests: cmake, pkg-config
Description: UDP gateway for game servers (development files)
 Headers, static libraries, the CMake package, the .pc files and examples of
 libudpgate, and mocks for the tests of programs that use it.
EOF
build_deb "$development" "$folder"
