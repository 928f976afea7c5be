#!/usr/bin/env bash
# Builds and tests examples/consumer against an installed udpgate, each time in an
# empty folder: CMake with static and shared libraries, g++ and clang, C++17 and
# C++20; pkg-config; the sources (FetchContent).
#
#   tools/consumers.sh [FOLDER]
#
# FOLDER keeps the builds (default: a temporary one). Ends with one line for each
# consumer, and with 1 if one fails.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
source_root="$PWD"
work="${1:-}"
if [[ -z "$work" ]]; then
  work="$(mktemp -d)"
  trap 'rm -rf "$work"' EXIT
fi
mkdir -p "$work"
work="$(realpath "$work")"
jobs="$(nproc)"
# The shared libraries are made of the same code as the static ones.
export CMAKE_CXX_COMPILER_LAUNCHER=ccache
export CCACHE_DIR="${CCACHE_DIR:-$work/ccache}" CCACHE_BASEDIR="$work"
export CCACHE_NOHASHDIR=true CCACHE_SLOPPINESS=pch_defines,time_macros
log="$work/log"
failures=0

run() {  # NAME COMMAND...
  if "${@:2}" > "$log" 2>&1; then
    echo "PASS $1"
  else
    tail -n 40 "$log"
    echo "FAIL $1"
    failures=$((failures + 1))
  fi
}

install_library() {  # FOLDER SHARED
  cmake --preset package -B "$work/build-$1" -D BUILD_SHARED_LIBS="$2" \
    -D UDPGATE_PROGRAM=OFF -D CMAKE_VERIFY_INTERFACE_HEADER_SETS=ON \
    && cmake --build "$work/build-$1" --parallel "$jobs" \
    && cmake --install "$work/build-$1" --prefix "$work/first-$1"
}

# The tree has to work wherever it lies.
move_library() {  # FOLDER
  rm -rf "$work/$1"
  mv "$work/first-$1" "$work/$1"
}

fresh_copy() {  # FOLDER
  rm -rf "${work:?}/$1"
  mkdir "$work/$1"
  cp examples/consumer/*.cc examples/consumer/*.h examples/consumer/*.sh \
    examples/consumer/CMakeLists.txt "$work/$1"
}

with_cmake() {  # FOLDER OPTION...
  fresh_copy "$1"
  cmake -S "$work/$1" -B "$work/$1/build" -G Ninja "${@:2}" \
    && cmake --build "$work/$1/build" --parallel "$jobs" \
    && ctest --test-dir "$work/$1/build" --output-on-failure
}

with_pkg_config() {  # FOLDER PREFIX COMPILER STANDARD [static]
  local flags libs
  local folder="$work/$1"
  fresh_copy "$1" || return
  export PKG_CONFIG_PATH
  PKG_CONFIG_PATH="$(dirname "$(find "$2" -name udpgate-core.pc)")"
  flags="$(pkg-config --cflags udpgate-testing)" || return
  libs="$(pkg-config ${5:+--static} --libs udpgate-testing gmock_main)" || return
  # shellcheck disable=SC2086 # they are lists of words
  "$3" "-std=$4" "$folder/two_backends.cc" "$folder/gateway_test.cc" $flags \
    $libs -pthread -Wl,-rpath,"$(dirname "$PKG_CONFIG_PATH")" \
    -o "$folder/gateway_test" && "$folder/gateway_test"
}

wrong_component() {
  fresh_copy wrong
  sed -i 's/COMPONENTS core testing/COMPONENTS core telepathy/' \
    "$work/wrong/CMakeLists.txt"
  ! cmake -S "$work/wrong" -B "$work/wrong/build" -G Ninja \
    -D CMAKE_PREFIX_PATH="$work/static" > "$work/wrong/log" 2>&1 \
    && grep -q 'no component "telepathy"; allowed: core, dns, ' \
      "$work/wrong/log"
}

run "install static libraries" install_library static OFF
run "public headers compile alone" cmake --build "$work/build-static" \
  --target all_verify_interface_header_sets --parallel "$jobs"
run "install shared libraries" install_library shared ON
if [[ ! -d "$work/first-static" || ! -d "$work/first-shared" ]]; then exit 1; fi
move_library static
move_library shared
run "CMake, static, g++, C++17" with_cmake cmake-static \
  -D CMAKE_PREFIX_PATH="$work/static"
run "CMake, shared, g++, C++20" with_cmake cmake-shared \
  -D CMAKE_PREFIX_PATH="$work/shared" -D CMAKE_CXX_STANDARD=20
run "CMake, static, clang, C++20" with_cmake cmake-clang \
  -D CMAKE_PREFIX_PATH="$work/static" -D CMAKE_CXX_STANDARD=20 \
  -D CMAKE_CXX_COMPILER=clang++
run "an unknown component is named" wrong_component
run "pkg-config, shared, g++, C++17" with_pkg_config pc-shared \
  "$work/shared" g++ c++17
run "pkg-config, static, clang, C++17" with_pkg_config pc-static \
  "$work/static" clang++ c++17 static
run "CMake, FetchContent, g++, C++17" with_cmake fetch \
  -D UDPGATE_SOURCE="$source_root" -D UDPGATE_PRECOMPILED_HEADERS=ON
exit "$((failures > 0))"
