#!/usr/bin/env bash
# The main function of the corpus tests fails where it should, and says on what.
set -euo pipefail

replay="$1"
corpus="$TEST_TMPDIR/corpus"
mkdir "$corpus"
printf 'good' > "$corpus/first"
printf 'xbad' > "$corpus/second"

# fails STATUS TEXT ARGUMENT...: STATUS `any` is all but 0.
fails() {
  local expected="$1" text="$2" status=0
  "$replay" "${@:3}" > "$TEST_TMPDIR/output" 2>&1 || status=$?
  if [[ "$status" -eq 0 ]] ||
    [[ "$expected" != any && "$status" -ne "$expected" ]] ||
    ! grep -q -- "$text" "$TEST_TMPDIR/output"; then
    cat "$TEST_TMPDIR/output"
    echo "with ${*:3}: status $status, and wanted $expected with: $text"
    exit 1
  fi
}

[[ "$("$replay" "$corpus")" == "2 files and 0 mutations are well" ]]
[[ "$("$replay" "$corpus/first")" == "1 files and 0 mutations are well" ]]

# A mutation of the second file takes its first byte away.
fails any "no input begins with bad" --mutations=100000 "$corpus"
grep -q "^failed on mutation [0-9]* of the corpus" "$TEST_TMPDIR/output"
grep -q "^626164" "$TEST_TMPDIR/output"
cp "$TEST_TMPDIR/output" "$TEST_TMPDIR/before"
fails any "no input begins with bad" --mutations=100000 "$corpus"
cmp "$TEST_TMPDIR/before" "$TEST_TMPDIR/output"

printf 'bad\001' > "$corpus/third"
fails any "^failed on $corpus/third, in hexadecimal:" "$corpus"
grep -q "^62616401$" "$TEST_TMPDIR/output"

mkdir "$TEST_TMPDIR/empty"
fails 2 "there is no input" "$TEST_TMPDIR/empty"
fails 2 "there is no input"
fails 2 "cannot be read" "$TEST_TMPDIR/nosuch"
fails 2 "of no use" --mutations=many "$corpus"
fails 2 "of no use" --help
