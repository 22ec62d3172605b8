#!/usr/bin/env bash
# Builds the image and tries it: image.sh [--host PROGRAM] [FLAG...]
# Flags go to `podman build` or `docker build` (--target tools, --build-arg BUILD_BASE=...). With --host the program is not
# compiled in a container but taken from this computer, with its libraries: then no registry is asked for anything.
# ENGINE names another engine than the podman or docker that is found, with its global flags; NAME another name than turnback.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)

if [ -n "${ENGINE:-}" ]; then
    read -ra engine <<<"$ENGINE"
elif command -v podman >/dev/null; then
    engine=(podman)
elif command -v docker >/dev/null; then
    engine=(docker)
else
    echo "image.sh: neither podman nor docker is here: install one (Debian: apt-get install podman)" >&2
    exit 1
fi
name=${NAME:-turnback}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

flags=()
if [ "${1:-}" = --host ]; then
    program=${2:?"--host needs the path of the program"}
    shift 2
    "$here/root.sh" "$program" "$work/image"
    # A context of this name takes the place of the stage.
    flags+=(--build-context "build=$work")
fi
# Only Docker's own format has health checks; its builder has no other and no such flag.
case "${engine[0]##*/}" in podman) flags+=(--format docker) ;; esac
"${engine[@]}" build "${flags[@]}" "$@" --tag "$name" --file "$here/Dockerfile" "$top"
"${engine[@]}" image inspect --format '{{.Size}}' "$name" | awk '{ printf "image.sh: %.1f MB\n", $1 / 1e6 }'

for flag in "$@"; do
    # What is tried below is that there is no shell, and more such; the image with tools has one.
    case "$flag" in *tools) exit 0 ;; esac
done
"$here/try.sh" "$name" "${engine[@]}"
