#!/usr/bin/env bash
# Builds the image of deploy/docker/Dockerfile, and runs it: probes, drain,
# takeover, an ordinary user, a read-only root, and the services of
# deploy/compose.yaml.
#
#   tools/container.sh [--keep]
#
# As root. No registry is asked: the base image is made by debootstrap, under the
# name that the Dockerfile asks for. No container engine runs: see
# testing/internal/container/container.py. --keep leaves the image for buildah.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
keeps=no
if [[ "${1:-}" == --keep ]]; then
  keeps=yes
  shift
fi
if [[ $# -ne 0 ]]; then
  echo "usage: $0 [--keep]" >&2
  exit 2
fi
tools/install_deps.sh --container
. tools/system_folder.sh

work="$(mktemp -d)"
image=localhost/udp-gate
containers=()
clean_up() {
  for container in "${containers[@]}"; do
    buildah umount "$container" > /dev/null 2>&1 || true
    buildah rm "$container" > /dev/null 2>&1 || true
  done
  umount "$work/storage/overlay" > /dev/null 2>&1 || true
  rm -rf "$work"
}
trap clean_up EXIT
export BUILDAH_ISOLATION=chroot XDG_RUNTIME_DIR="$work"
if [[ "$keeps" == no ]]; then
  # A storage that goes with the script.
  export CONTAINERS_STORAGE_CONF="$work/storage.conf"
  storage() {
    printf '[storage]\ndriver = "%s"\ngraphroot = "%s"\nrunroot = "%s"\n' \
      "$1" "$work/storage" "$work/run" > "$CONTAINERS_STORAGE_CONF"
  }
  storage overlay
  # Slower, and it works on every file system.
  buildah info > /dev/null 2>&1 || storage vfs
fi

quietly() {
  "$@" > "$work/log" 2>&1 || {
    tail -n 40 "$work/log" >&2
    echo "$0: $* failed" >&2
    exit 1
  }
}

echo "--- base image"
make_system bookworm "$work/base"
rm -rf "$work/base/var/cache/apt/archives" "$work/base/var/lib/apt/lists"
mkdir -p "$work/base/var/cache/apt/archives/partial" \
  "$work/base/var/lib/apt/lists/partial"
base="$(buildah from scratch)"
containers+=("$base")
quietly buildah add "$base" "$work/base" /
for name in debian:bookworm debian:bookworm-slim; do
  quietly buildah commit "$base" "docker.io/library/$name"
done

echo "--- image"
quietly timeout 2400 buildah bud --isolation chroot --cap-add=all --pull-never \
  --file deploy/docker/Dockerfile --tag "$image" .
container="$(buildah from --pull-never "$image")"
containers+=("$container")
buildah inspect --type image "$image" > "$work/image.json"
buildah mount "$container" > "$work/root"
buildah mount "$base" > "$work/base_root"

echo "--- tests"
python3 -B testing/internal/container/container_test.py "$(cat "$work/root")" \
  "$(cat "$work/base_root")" "$work/image.json" deploy/compose.yaml
