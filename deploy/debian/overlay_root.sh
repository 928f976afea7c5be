#!/usr/bin/env bash
# Runs a command as process 1 of namespaces of its own (processes, mounts, network),
# with a copy of the machine's file system that it may change: an overlay in memory.
#
#   overlay_root.sh FOLDER COMMAND...    as root
#
# The command finds the files of FOLDER in /run/udpgate-test.
set -euo pipefail

if [[ "${1:-}" != --inside ]]; then
  exec unshare --fork --pid --mount --net --uts --kill-child "$0" --inside "$@"
fi
folder="$2"
shift 2

mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
root=/mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay \
  "$root"
for name in proc sys dev; do mount --rbind "/$name" "$root/$name"; done
for name in run tmp var/tmp; do mount -t tmpfs tmpfs "$root/$name"; done
mkdir -p "$root/run/systemd/system"
cp -r "$folder" "$root/run/udpgate-test"
ip link set lo up
cd "$root"
pivot_root . mnt
umount --lazy /mnt
exec "$@"
