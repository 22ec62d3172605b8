#!/usr/bin/env bash
# Starts an image as it is meant to be started, and looks whether it keeps its promises: try.sh IMAGE ENGINE [FLAG...]
# Not root, nothing writable but the volume, no shell, healthy by its own check, a kill switch that is a file, and a ledger
# that outlives the container.
set -euo pipefail
image=$1
shift
engine=("$@")
name=turnback-try-$$
state=$(mktemp -d)
# The volume belongs to the image's user, as an engine's own volumes do.
chown 65532:65532 "$state" 2>/dev/null || chmod 777 "$state"
chmod 700 "$state" 2>/dev/null || true
network=${TRY_NETWORK:-none}
fence=(--read-only --cap-drop ALL --security-opt no-new-privileges --network "$network")
# For engines in a container, which may not raise limits: RUN_FLAGS="--ulimit nofile=20000:20000 --ulimit nproc=4096:4096"
read -ra more <<<"${RUN_FLAGS:-}"
fence+=("${more[@]}")

finish() {
    "${engine[@]}" rm --force "$name" >/dev/null 2>&1 || true
    rm -rf "$state"
}
trap finish EXIT
fail() {
    echo "try.sh: $*" >&2
    "${engine[@]}" logs "$name" >&2 || true
    exit 1
}
start() {
    "${engine[@]}" run --detach --name "$name" "${fence[@]}" --volume "$state:/var/lib/turnback" "$image" >/dev/null
    local _
    for _ in $(seq 100); do
        inside status >/dev/null 2>&1 && return
        sleep 0.1
    done
    fail "it does not answer within 10 s"
}
inside() { "${engine[@]}" exec "$name" /usr/bin/turnback "$@"; }
# Whether its status holds these words. Not a pipe: a reader that leaves early makes the writer fail.
says() {
    local status
    status=$(inside status) || return 1
    case "$status" in *"$1"*) ;; *) return 1 ;; esac
}

start
echo "try.sh: it answers, with a read-only root and without capabilities"
host_id=$("${engine[@]}" inspect --format '{{.State.Pid}}' "$name")
ids=$(awk '/^(Uid|Gid):/ { print $2 }' "/proc/$host_id/status" | sort -u | tr '\n' ' ')
case " $ids" in *" 0 "*) fail "it runs as root: $ids" ;; esac
echo "try.sh: it runs as $ids"
capabilities=$(awk '/^Cap(Eff|Bnd):/ { print $2 }' "/proc/$host_id/status" | sort -u | tr '\n' ' ')
[ "$capabilities" = "0000000000000000 " ] || fail "it has capabilities: $capabilities"
if "${engine[@]}" exec "$name" /bin/sh -c true >/dev/null 2>&1; then fail "there is a shell"; fi
echo "try.sh: there is no shell"
check=$("${engine[@]}" image inspect --format '{{json .Config.Healthcheck}}{{json .HealthCheck}}' "$image" 2>/dev/null ||
    "${engine[@]}" image inspect --format '{{json .Config.Healthcheck}}' "$image")
case "$check" in *'/usr/bin/turnback","status'*) ;; *) fail "the image has no health check: $check" ;; esac
says "Not stopped" || fail "its status is not what a new one's is"

"${engine[@]}" healthcheck run "$name" >/dev/null 2>&1 || [ "${engine[0]##*/}" != podman ] || fail "its own check finds it ill"
inside freeze --reason "try.sh was here" >/dev/null

touch "$state/STOP"
for _ in $(seq 30); do
    if says STOPPED; then stopped=yes && break; fi
    sleep 0.1
done
[ "${stopped:-}" = yes ] || fail "the file STOP does not stop it within 3 s"
echo "try.sh: the file STOP on the volume is the kill switch"
rm "$state/STOP"

"${engine[@]}" stop --time 20 "$name" >/dev/null
code=$("${engine[@]}" inspect --format '{{.State.ExitCode}}' "$name")
[ "$code" = 0 ] || fail "asked to end it ended with $code"
"${engine[@]}" rm "$name" >/dev/null
[ -s "$state/ledger.db" ] || fail "there is no ledger on the volume"
start
inside ledger verify || fail "the ledger of the container before is not sound"
says "try.sh was here" || fail "what the container before had written is forgotten"
echo "try.sh: the ledger outlived its container"
