#!/usr/bin/env bash
# Runs clang-tidy, with the checks of .clang-tidy, over the sources of the library
# and of the program. Tests are not covered: GoogleTest's macros would take it most
# of its time.
#
#   tools/lint.sh [FILE...]   for example udpgate/proxy.cc
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ! command -v clang-tidy > /dev/null; then
  echo "$0: clang-tidy is missing; tools/install_deps.sh --ci installs it" >&2
  exit 1
fi

files=("$@")
if [[ ${#files[@]} -eq 0 ]]; then
  mapfile -t files < <(
    git -c safe.directory="$PWD" ls-files -- 'udpgate/*.cc' 'cli/*.cc' |
      grep -v '_test\.cc$'
  )
fi
printf '%s\0' "${files[@]}" |
  xargs -0 -n 2 -P "$(nproc)" bash -c \
    'clang-tidy --quiet --warnings-as-errors="*" "$@" -- -std=c++17 -I. \
      2> >(grep -vE "^[0-9]+ warnings? " >&2)' lint
