# Another Debian in a folder: what container.sh, debian13.sh and arm64.sh share. They
# source it at the top of the source tree, as root.
# shellcheck shell=bash

# make_system SUITE ROOT: the smallest system of that release, with the mirror and the
# options that apt-get has here. Says what failed, and returns 1.
make_system() {
  local log="$2.log"
  mkdir -p "$2"
  debootstrap --variant=minbase --include=ca-certificates "$1" "$2" \
    http://deb.debian.org/debian > "$log" 2>&1 || {
    tail -n 20 "$log" >&2
    echo "$0: debootstrap of $1 failed" >&2
    return 1
  }
  rm "$log"
  cp /etc/apt/apt.conf.d/* "$2/etc/apt/apt.conf.d/"
}

# copy_source ROOT: this tree as /source, without what Git ignores.
copy_source() {
  rm -rf "$1/source"
  mkdir "$1/source"
  git -c safe.directory="$PWD" ls-files -z --cached --others --exclude-standard \
    | tar --create --null --files-from=- --ignore-failed-read \
    | tar --extract --directory="$1/source"
}

# open_system SUITE [FOLDER]: sets `root` to a folder with that release and this tree
# as /source. An empty or missing FOLDER is filled; without one a temporary folder is
# made, which goes with the script.
open_system() {
  root="${2:-}"
  if [[ -z "$root" ]]; then
    root="$(mktemp -d)"
    trap 'rm -rf "$root"' EXIT
  fi
  mkdir -p "$root"
  root="$(realpath "$root")"
  # It is the / of ordinary users in it, too.
  chmod 755 "$root"
  if [[ ! -e "$root/etc/debian_version" ]]; then
    part "system" make_system "$1" "$root"
  fi
  copy_source "$root"
}

# inside ROOT SCRIPT: runs the script there, in /source. Its processes
# and mounts are its own, so that nothing is left behind.
inside() {
  unshare --fork --pid --mount --kill-child bash -euc '
    root="$1"
    mount --make-rprivate /
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    for name in sys dev; do mount --rbind "/$name" "$root/$name"; done
    mount -t tmpfs tmpfs "$root/run"
    mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
    # Not replaced by its last command: process 1 has to await orphans.
    exec chroot "$root" bash -euo pipefail -c "cd /source
      $2
      exit"
  ' bash "$1" "$2" < /dev/null
}

# part NAME COMMAND...: runs it, and prints what it took.
part() {
  local status TIMEFORMAT="--- $1: %0R s, CPU %0U s and %0S s"
  echo "--- $1"
  # Not as a condition, where a shell goes on after a failure.
  set +e
  time (
    set -e
    "${@:2}"
  )
  status=$?
  set -e
  return "$status"
}

# find_tests SELECTION: sets `targets` to the tests in /build that these arguments of
# ctest(1) select; each is the name of a target, too. Ends the script if there is none.
find_tests() {
  inside "$root" "ctest --test-dir /build -N $1" > "$root/tests.txt"
  mapfile -t targets < <(sed -nE 's/^ *Test +#[0-9]+: //p' "$root/tests.txt")
  if [[ ${#targets[@]} -eq 0 ]]; then
    echo "$0: no test is selected by $1" >&2
    exit 1
  fi
}

# print_skipped ROOT: the cases that CTest's last run in /build skipped, and why.
print_skipped() {
  local log="$1/build/Testing/Temporary/LastTest.log"
  if ! grep -q ': Skipped$' "$log"; then return 0; fi
  echo "--- skipped"
  sed -n '/: Skipped$/{s,^/source/,,;s, Skipped$,,;N;s,\n, ,;p}' "$log" | sort -u
}
