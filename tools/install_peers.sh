#!/usr/bin/env bash
# Installs the packages of npm that tools/programs.sh and tools/nethernet.sh run,
# as the lock file has them. They bring what they need in binary form; nothing of
# theirs runs while they are installed.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
peers="$root/testing/internal/programs/peers"
installed="$peers/node_modules/.installed"
if cmp --quiet "$peers/package-lock.json" "$installed"; then exit 0; fi
npm ci --prefix "$peers" --ignore-scripts --omit=dev --no-audit --no-fund \
  --loglevel=error < /dev/null >&2
cp "$peers/package-lock.json" "$installed"
