#!/usr/bin/env bash
# Runs the tests of the fast path and of takeover in kernels of Debian, in a machine
# that QEMU emulates (no KVM is needed), and prints a table.
#
#   tools/kernels.sh               5.10, 6.1 and 6.12
#   tools/kernels.sh 6.1           this one; there may be several
#   tools/kernels.sh --quick 6.1   fewer tests, as .ci/run does
#   tools/kernels.sh --only REGEX  the tests whose name matches
#   tools/kernels.sh --list        names of the tests
#   tools/kernels.sh --bench 6.1   instead: what tools/bench_fastpath.sh measures at
#                                  saturation, with the contenders that need no other
#                                  program; only ratios mean something in emulation
#   tools/kernels.sh --recovery 6.1
#                                  instead: kills gateways of 5,000, 18,000 and 50,000
#                                  sessions and starts them again, whatever limit of
#                                  descriptors this machine has. It fails if a session
#                                  is lost or gets another source port, or if the time
#                                  grows much faster than the number
#
# Needs root, 3 GB of memory (5 GB with --recovery), 1 GB of disk for each kernel, and
# Debian's package archive the first time. Kernels are looked up among the packages that
# apt-get knows, and else in the Debian releases that had them (UDPGATE_DEBIAN_MIRROR,
# by default http://deb.debian.org/debian). They stay in ~/.cache/udpgate-kernels
# (XDG_CACHE_HOME).
#
# The emulated machine has this machine's files, which it cannot change, and empty
# folders in memory where programs write. It has no network but loopback and what the
# tests make. It is ten to thirty times slower than this one, so the tests wait
# longer (UDPGATE_TEST_TIMEOUT_FACTOR, 10 here).
#
# A kernel that cannot be found is skipped with the reason, unless it was named. A
# test that does not apply to a kernel is skipped with the reason. One that fails gets
# a second attempt, since the gateway's own time limits do not grow with the slowness
# of the machine; the table says so. Exit status: 0 if all tests passed, 1 if not.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
mirror="${UDPGATE_DEBIAN_MIRROR:-http://deb.debian.org/debian}"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/udpgate-kernels"
factor="${UDPGATE_TEST_TIMEOUT_FACTOR:-10}"
# Of one test, and of one kernel.
test_seconds_max=1500
kernel_seconds_max=5400

tests=(
  //udpgate/fastpath/internal:verifier_test
  //udpgate/fastpath/internal:packet_test
  //udpgate/fastpath/internal:instance_lock_test
  //udpgate/fastpath/internal:netlink_test
  //udpgate/fastpath/internal:route_watcher_test
  //udpgate/fastpath:topology_test
  //udpgate/fastpath:special_packets_test
  //udpgate/fastpath:network_change_test
  //udpgate/fastpath:other_programs_test
  //udpgate/fastpath:flow_lifecycle_test
  //udpgate/fastpath:process_end_test
  //udpgate/fastpath:takeover_test
  //testing/internal/e2e:fast_path_test
  //testing/internal/e2e:takeover_test
)
# Which cases (--gtest_filter); all where there is none. Those that measure times
# are left out.
declare -A filters=(
  [//testing/internal/e2e:takeover_test]='-*FiveHundredPlayers*:*ThousandsOf*'
)
# With --quick, these tests alone.
declare -A quick_filters=(
  [//udpgate/fastpath/internal:verifier_test]='*'
  [//udpgate/fastpath/internal:packet_test]='*'
  [//udpgate/fastpath/internal:instance_lock_test]='*'
  [//udpgate/fastpath:topology_test]='*RelaysBothDirections*:*BehindAVlan/Ipv4*'
  [//udpgate/fastpath:takeover_test]='*Meanwhile/Ipv4*:*LeavesOneProgram*/Ipv4*'
  [//testing/internal/e2e:fast_path_test]='*TenTakeovers/Ipv4'
)

versions=()
only=.
is_quick=no
measured=nothing
memory_mib=2048
must_have=yes
while [[ $# -gt 0 ]]; do
  case "$1" in
    --only)
      only="${2:?--only needs a regular expression}"
      shift
      ;;
    --quick) is_quick=yes ;;
    --bench) measured=bench ;;
    --recovery)
      measured=recovery
      memory_mib=4096
      ;;
    --list)
      printf '%s\n' "${tests[@]}"
      exit 0
      ;;
    [0-9]*.[0-9]*) versions+=("$1") ;;
    *)
      sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
      exit 2
      ;;
  esac
  shift
done
if [[ ${#versions[@]} -eq 0 ]]; then
  versions=(5.10 6.1 6.12)
  must_have=no
fi
if [[ "$(dpkg --print-architecture)" != amd64 ]]; then
  echo "$0: works on amd64 alone, since it emulates that" >&2
  exit 2
fi
if [[ "$(id -u)" -ne 0 ]]; then
  echo "$0: needs root, to read all files of this machine" >&2
  exit 2
fi
"$root/tools/install_deps.sh" --kernels
mkdir -p "$cache"
work="$(mktemp -d)"
qemu_pid=
clean_up() {
  if [[ -n "$qemu_pid" ]]; then kill "$qemu_pid" 2> /dev/null || true; fi
  rm -rf "$work"
}
trap clean_up EXIT

# Package lists of a release that this machine's apt-get does not know.
other_release() {  # RELEASE
  local folder="$cache/apt/$1"
  apt_options=(
    -o "Dir::Etc::SourceList=$folder/sources.list" -o Dir::Etc::SourceParts=-
    -o "Dir::State=$folder/state" -o "Dir::Cache=$folder/cache"
    -o Acquire::Check-Valid-Until=false -o APT::Sandbox::User=root
  )
  mkdir -p "$folder/state/lists/partial" "$folder/cache/archives/partial"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]" \
    "$mirror $1 main" > "$folder/sources.list"
  apt-get -qq "${apt_options[@]}" update < /dev/null 2> "$work/apt.log"
}

# The newest kernel of this version, without variants (cloud, rt).
newest_package() {  # VERSION
  apt-cache "${apt_options[@]}" pkgnames "linux-image-$1." 2> /dev/null \
    | grep -E "^linux-image-${1//./\\.}\.[0-9]+(\+[a-z0-9]+)?(-[0-9]+)?-amd64$" \
    | sort -V | tail -n 1
}

# Sets `kernel_folder` to that of the unpacked package. Fails with a reason in
# $work/reason.
find_kernel() {  # VERSION
  local release package
  apt_options=(-o APT::Sandbox::User=root)
  package="$(newest_package "$1" || true)"
  for release in bullseye bookworm trixie; do
    if [[ -n "$package" ]]; then break; fi
    if ! other_release "$release"; then continue; fi
    package="$(newest_package "$1" || true)"
  done
  if [[ -z "$package" ]]; then
    echo "no linux-image-$1 in what apt-get knows or on $mirror" > "$work/reason"
    return 1
  fi
  kernel_folder="$cache/$package"
  if [[ -e "$kernel_folder/complete" ]]; then return; fi
  rm -rf "$kernel_folder" "$work/deb"
  mkdir -p "$kernel_folder" "$work/deb"
  if ! (cd "$work/deb" \
    && apt-get -qq "${apt_options[@]}" download "$package" < /dev/null) \
    > "$work/reason" 2>&1; then
    return 1
  fi
  dpkg-deb -x "$work/deb/"*.deb "$kernel_folder"
  # Packages of newer releases have it below /usr.
  if [[ ! -e "$kernel_folder/lib" ]]; then
    ln -s usr/lib "$kernel_folder/lib"
  fi
  depmod -b "$kernel_folder" "$(ls "$kernel_folder/lib/modules")"
  rm -rf "$work/deb"
  touch "$kernel_folder/complete"
}

# What the emulated machine runs first: it mounts this machine's files and runs
# `guest_main` among them.
write_init() {
  cat << 'END'
#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /host
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
while read -r module; do
  /bin/busybox insmod "$module"
done < /modules
options=trans=virtio,version=9p2000.L,msize=512000
/bin/busybox mount -t 9p -o "$options,ro,cache=loose" host /host
for folder in tmp var/tmp run; do
  /bin/busybox mount -t tmpfs tmpfs "/host/$folder"
done
/bin/busybox mkdir /host/tmp/work /host/tmp/kernel
/bin/busybox mount -t 9p -o "$options" work /host/tmp/work
/bin/busybox mount -t 9p -o "$options,ro,cache=loose" kernel /host/tmp/kernel
/bin/busybox mount -t proc proc /host/proc
/bin/busybox mount -t sysfs sys /host/sys
/bin/busybox mount --bind /dev /host/dev
/bin/busybox mkdir -p /dev/shm /dev/pts
/bin/busybox mount -t tmpfs tmpfs /host/dev/shm
/bin/busybox mount -t devpts devpts /host/dev/pts
/bin/busybox ln -s /proc/self/fd /dev/fd
# The kernel loads further modules by it.
echo /sbin/modprobe > /proc/sys/kernel/modprobe
/bin/busybox ifconfig lo 127.0.0.1 up
/bin/busybox chroot /host /bin/bash /tmp/work/guest_main
/bin/busybox sync
/bin/busybox poweroff -f
END
}

# The kernel calls it outside of /host.
write_modprobe() {
  cat << 'END'
#!/bin/busybox sh
exec /bin/busybox chroot /host /sbin/modprobe -d /tmp/kernel "$@"
END
}

# Runs the tests one by one. A line each in `results`: name, status, tenths of
# seconds, attempts.
write_guest_main() {
  cat << END
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/tmp TEST_TMPDIR=/tmp UDPGATE_BINARY=/tmp/work/bin/udp-gate
export UDPGATE_TEST_TIMEOUT_FACTOR=$factor UDPGATE_PACKETS=6000 CI=true
cd /tmp/work
uname -r > uname
modprobe -d /tmp/kernel -a 8021q veth dummy tun 2> modules.log || true
ulimit -n 20000
while read -r name filter; do
  file=\${name//[:\/]/_}
  for attempt in 1 2; do
    begin=\$(date +%s%N)
    status=0
    timeout --kill-after=10 $test_seconds_max "./bin/\$file" \
      --gtest_color=no --gtest_filter="\$filter" > "logs/\$file" 2>&1 \
      < /dev/null || status=\$?
    end=\$(date +%s%N)
    if [[ \$status -eq 0 ]]; then break; fi
    cp "logs/\$file" "logs/\$file.\$attempt"
  done
  echo "\$name \$status \$(((end - begin) / 100000000)) \$attempt" >> results
done < tests
END
}

# These two write `report`.
write_guest_bench() {  # FOLDER_OF_PROGRAMS
  cat << END
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp
uname -r > /tmp/work/uname
modprobe -d /tmp/kernel -a veth nf_tables nft_chain_nat nft_flow_offload \
  nf_flow_table_inet 2> /tmp/work/modules.log || true
/usr/bin/python3 -B "$root/testing/internal/bench/fastpath.py" --bin "$1" \
  --rounds 3 --seconds 10 --loads saturation \
  --contenders routing,nat,flowtable,sockets,fastpath > /tmp/work/report 2>&1
END
}

write_guest_recovery() {  # FOLDER_OF_PROGRAMS
  cat << END
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp
export UDPGATE_TEST_TIMEOUT_FACTOR=$factor
uname -r > /tmp/work/uname
ulimit -n 200000
/usr/bin/python3 -B "$root/testing/internal/bench/bench.py" --store --bin "$1" \
  --only recovery --rounds 1 --sessions 5000,18000,50000 > /tmp/work/report 2>&1
END
}

# The modules without which it cannot mount anything, and what they need, in order.
write_modules() {  # INITRAMFS KERNEL_FOLDER
  local release file
  release="$(ls "$2/lib/modules")"
  : > "$1/modules"
  modprobe -d "$2" -S "$release" --show-depends -a virtio_pci 9pnet_virtio 9p \
    | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' > "$work/order"
  while read -r file; do
    local name="${file##*/}"
    case "$name" in
      *.xz) xz -dc "$file" > "$1/${name%.xz}" ;;
      *.zst) zstd -qdc "$file" > "$1/${name%.zst}" ;;
      *) cp "$file" "$1/$name" ;;
    esac
    echo "/${name%%.ko*}.ko" >> "$1/modules"
  done < "$work/order"
}

make_initramfs() {  # KERNEL_FOLDER
  local folder="$work/initramfs"
  rm -rf "$folder"
  mkdir -p "$folder/bin" "$folder/sbin"
  cp /bin/busybox "$folder/bin/busybox"
  write_init > "$folder/init"
  write_modprobe > "$folder/sbin/modprobe"
  chmod 755 "$folder/init" "$folder/sbin/modprobe"
  write_modules "$folder" "$1"
  (cd "$folder" && find . | busybox cpio -o -H newc 2> /dev/null) \
    | gzip -1 > "$work/initrd"
}

boot() {  # KERNEL_FOLDER
  timeout --kill-after=10 "$kernel_seconds_max" qemu-system-x86_64 \
    -accel tcg,thread=multi -cpu max -smp 1 -m "$memory_mib" \
    -nodefaults -no-user-config -display none -no-reboot -serial stdio \
    -kernel "$1"/boot/vmlinuz-* -initrd "$work/initrd" \
    -append 'console=ttyS0 panic=-1 loglevel=4 rcupdate.rcu_expedited=1' \
    -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap \
    -virtfs local,path="$1",mount_tag=kernel,security_model=none,readonly=on,multidevs=remap \
    -virtfs local,path="$work/guest",mount_tag=work,security_model=none,multidevs=remap \
    > "$work/guest/console" 2>&1 < /dev/null &
  qemu_pid=$!
  wait "$qemu_pid" || true
  qemu_pid=
}

# How the tests of one log ended.
summary() {  # LOG STATUS
  local passed skipped failed reason text
  passed="$(grep -c '^\[       OK \]' "$1" || true)"
  skipped="$(grep -c '^\[  SKIPPED \].*ms)$' "$1" || true)"
  failed="$(grep -c '^\[  FAILED  \].*ms)$' "$1" || true)"
  text="$passed passed"
  if [[ "$skipped" -gt 0 ]]; then
    reason="$(grep -A1 ': Skipped$' "$1" | grep -vE ': Skipped$|^--$' | sort -u \
      | paste -sd ';')"
    text="$text, $skipped skipped ($reason)"
  fi
  if [[ "$failed" -gt 0 ]]; then text="$text, $failed failed"; fi
  case "$2" in
    0) echo "ok: $text" ;;
    124 | 137) echo "FAILED: no end in $test_seconds_max s, $text" ;;
    *) echo "FAILED with status $2: $text" ;;
  esac
}

print_log() {  # TITLE FILE
  echo "--- $1"
  grep -E -A8 'Failure$|^\[  FAILED|Aborted|status [0-9]+$' "$2" | head -n 60 \
    || tail -n 30 "$2"
}

table=()
has_failed=no
add_row() {  # TEST KERNEL RESULT SECONDS
  table+=("| $1 | $2 | $3 | $4 |")
  printf '%s\n' "${table[-1]}"
}

run_kernel() {  # VERSION
  local name status tenths attempts log result begin=$SECONDS
  if ! find_kernel "$1"; then
    add_row "all" "$1" "skipped: $(head -n 1 "$work/reason")" 0
    if [[ "$must_have" == yes ]]; then has_failed=yes; fi
    return
  fi
  rm -rf "$work/guest/logs" "$work/guest/results" "$work/guest/uname"
  mkdir -p "$work/guest/logs"
  make_initramfs "$kernel_folder"
  boot "$kernel_folder"
  local release
  release="$(cat "$work/guest/uname" 2> /dev/null || echo "$1")"
  while read -r name _; do
    log="$work/guest/logs/${name//[:\/]/_}"
    if ! read -r status tenths attempts < <(sed -nE "s,^$name ,,p" \
      "$work/guest/results" 2> /dev/null); then
      add_row "$name" "$release" "FAILED: did not run" 0
      has_failed=yes
      continue
    fi
    result="$(summary "$log" "$status")"
    if [[ "$attempts" -gt 1 ]]; then
      print_log "$name in $release, first attempt" "$log.1"
      if [[ "$status" -eq 0 ]]; then result="$result, at the second attempt"; fi
    fi
    add_row "$name" "$release" "$result" "$((tenths / 10)).$((tenths % 10))"
    if [[ "$status" -ne 0 ]]; then
      has_failed=yes
      print_log "$name in $release" "$log"
    fi
  done < "$work/guest/tests"
  if [[ ! -s "$work/guest/results" ]]; then
    echo "--- the machine's console"
    tail -n 40 "$work/guest/console"
  fi
  echo "$release: $((SECONDS - begin)) s with its start"
}

measure_in() {  # VERSION
  if ! find_kernel "$1"; then
    echo "$1 is skipped: $(head -n 1 "$work/reason")"
    has_failed=yes
    return
  fi
  rm -f "$work/guest/report"
  make_initramfs "$kernel_folder"
  boot "$kernel_folder"
  cat "$work/guest/report" || tail -n 40 "$work/guest/console"
  case "$measured" in
    bench) grep -q '^fastpath ' "$work/guest/report" || has_failed=yes ;;
    recovery)
      if ! grep -q '^50,000 ' "$work/guest/report" \
        || grep -qE '^(  FAIL|BROKE)' "$work/guest/report"; then
        has_failed=yes
      fi
      ;;
  esac
}

measure() {
  local version
  local targets=(//cli:udp-gate //testing/internal/bench:echo)
  case "$measured" in
    bench)
      targets+=(
        //testing/internal/bench:load //testing/internal/bench:fast_path_benchmark
      )
      ;;
    recovery) targets+=(//testing/internal/bench:newcomers) ;;
  esac
  cd "$root"
  bazel build --config=opt --ui_event_filters=-info "${targets[@]}" < /dev/null >&2
  mkdir -p "$work/guest"
  "write_guest_$measured" "$(bazel info --config=opt bazel-bin 2> /dev/null)" \
    > "$work/guest/guest_main"
  for version in "${versions[@]}"; do measure_in "$version"; done
}

build() {
  local name bin
  local targets=()
  mkdir -p "$work/guest/bin"
  for name in "${tests[@]}"; do
    local filter="${filters[$name]:-*}"
    if [[ "$is_quick" == yes ]]; then filter="${quick_filters[$name]:-}"; fi
    if [[ -z "$filter" || ! "$name" =~ $only ]]; then continue; fi
    targets+=("$name")
    echo "$name $filter" >> "$work/guest/tests"
    if [[ "$filter" != '*' ]]; then echo "$name: only $filter" >&2; fi
  done
  if [[ ${#targets[@]} -eq 0 ]]; then
    echo "$0: no test matches $only; --list shows their names" >&2
    exit 2
  fi
  write_guest_main > "$work/guest/guest_main"
  cd "$root"
  bazel build --ui_event_filters=-info //cli:udp-gate "${targets[@]}" \
    < /dev/null >&2
  bin="$(bazel info bazel-bin 2> /dev/null)"
  cp -L "$bin/cli/udp-gate" "$work/guest/bin/"
  # Two of them have the same name in different folders.
  for name in "${targets[@]}"; do
    local path="${name#//}"
    cp -L "$bin/${path/:/\/}" "$work/guest/bin/${name//[:\/]/_}"
  done
}

if [[ "$measured" != nothing ]]; then
  measure
  [[ "$has_failed" == no ]]
  exit
fi
build
for version in "${versions[@]}"; do run_kernel "$version"; done
echo
printf '%s\n' '| Test | Kernel | Result | Seconds |' '|---|---|---|---|' \
  "${table[@]}"
[[ "$has_failed" == no ]]
