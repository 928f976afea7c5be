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

# Without the program, and of one component alone.
install_core() {
  cmake --preset package -B "$work/build-core" -D UDPGATE_PROGRAM=OFF \
    -D UDPGATE_COMPONENTS=core \
    && cmake --build "$work/build-core" --parallel "$jobs" \
    && cmake --install "$work/build-core" --prefix "$work/core"
}

# What find_package(udpgate WORDS) does where there is no package but Abseil.
find_with_abseil() {  # PREFIX WORDS
  rm -rf "$work/find"
  mkdir "$work/find"
  printf '%s\n' 'cmake_minimum_required(VERSION 3.25)' \
    'project(find LANGUAGES CXX)' "find_package(udpgate $2)" \
    'message(STATUS "core ${udpgate_core_FOUND}, redis ${udpgate_redis_FOUND}")' \
    > "$work/find/CMakeLists.txt"
  cmake -S "$work/find" -B "$work/find/build" -G Ninja \
    -D CMAKE_PREFIX_PATH="$1" -D CMAKE_DISABLE_FIND_PACKAGE_GTest=ON \
    -D CMAKE_DISABLE_FIND_PACKAGE_OpenSSL=ON \
    -D CMAKE_DISABLE_FIND_PACKAGE_PkgConfig=ON \
    -D CMAKE_DISABLE_FIND_PACKAGE_prometheus-cpp=ON 2>&1 | tr -s ' \n' ' '
}

finds() {  # PREFIX WORDS TEXT
  local said
  said="$(find_with_abseil "$1" "$2")" || true
  echo "$said"
  [[ "$said" == *"$3"* ]]
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
run "a component alone is built and installed" install_core
run "core asks for Abseil alone" finds "$work/static" \
  "0.1 REQUIRED COMPONENTS core" "core TRUE, redis "
run "an unknown component is named" finds "$work/static" \
  "REQUIRED COMPONENTS core telepathy" 'no component "telepathy"; allowed: core, dns, '
run "a component that is not installed is named" finds "$work/core" \
  "REQUIRED COMPONENTS core redis" 'the component "redis" of udpgate is not installed'
run "an optional component may be missing" finds "$work/core" \
  "REQUIRED COMPONENTS core OPTIONAL_COMPONENTS redis" "core TRUE, redis FALSE"
run "another minor version does not fit" finds "$work/core" "0.2 REQUIRED" \
  'compatible with requested version "0.2"'
run "pkg-config, shared, g++, C++17" with_pkg_config pc-shared \
  "$work/shared" g++ c++17
run "pkg-config, static, clang, C++17" with_pkg_config pc-static \
  "$work/static" clang++ c++17 static
run "CMake, FetchContent, g++, C++17" with_cmake fetch \
  -D UDPGATE_SOURCE="$source_root" -D UDPGATE_PRECOMPILED_HEADERS=ON
exit "$((failures > 0))"
