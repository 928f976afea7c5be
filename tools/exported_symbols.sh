#!/usr/bin/env bash
# The symbols that the shared libraries export are part of the interface, so they
# are kept in cmake/symbols/, where a review sees a change of them.
#
#   tools/exported_symbols.sh FOLDER            compare
#   tools/exported_symbols.sh --update FOLDER   write
#
# FOLDER holds libudpgate_*.so, built with g++ 12.
set -euo pipefail

is_update=no
if [[ "${1:-}" == --update ]]; then
  is_update=yes
  shift
fi
if [[ $# -ne 1 ]]; then
  echo "usage: $0 [--update] FOLDER" >&2
  exit 2
fi
symbols="$(dirname "${BASH_SOURCE[0]}")/../cmake/symbols"
mkdir -p "$symbols"
# What no program can name: internal parts, and classes within a class.
not_interface='^[^(]*::(internal|Impl|Core)::'
status=0
for library in "$1"/libudpgate_*.so; do
  name="${library##*/libudpgate_}"
  name="${name%.so}"
  # Weak ones are inline functions, which a compiler may leave out.
  nm --dynamic --defined-only --demangle "$library" \
    | sed -nE 's/^[0-9a-f]+ [TDBR] //p' | sed 's/@@.*//' \
    | sed -E "/$not_interface/d" \
    | LC_ALL=C sort -u > "$symbols/$name.new"
  if [[ "$is_update" == yes ]]; then
    mv "$symbols/$name.new" "$symbols/$name.txt"
    continue
  fi
  diff -u "$symbols/$name.txt" "$symbols/$name.new" || status=1
  rm -f "$symbols/$name.new"
done
if [[ "$status" -ne 0 ]]; then
  echo "the exported symbols differ; if they should: $0 --update FOLDER" >&2
fi
exit "$status"
