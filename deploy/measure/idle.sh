#!/usr/bin/env bash
# Measures the idle daemon: idle.sh BINARY. Five starts with no configuration, each in a home of its own; start to
# ready is the time until GET /readyz answers 200, memory is VmRSS after 10 s of doing nothing.
# Fails if the median start takes over 300 ms or any run holds more than 40 MiB.
set -euo pipefail

binary=${1:?"usage: idle.sh BINARY (make measure-idle builds and names it)"}
runs=5
idle_seconds=10
start_limit_ms=300
memory_limit_kib=$((40 * 1024))
# A daemon that is not ready after this long will not be: give up and show its log.
ready_deadline_ms=10000

[ -x "$binary" ] || { echo "idle.sh: $binary is not a program: run make measure-idle" >&2; exit 2; }
[ -r /proc/self/status ] || { echo "idle.sh: memory is read from /proc, which only Linux has" >&2; exit 2; }

folder=$(mktemp -d)
daemon=""
clean() {
    [ -z "$daemon" ] || kill -9 "$daemon" 2>/dev/null || true
    rm -rf "$folder"
}
trap clean EXIT

now_ms() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

# Below the range that the kernel hands out to outgoing connections.
free_port() {
    local port
    while :; do
        port=$((10000 + RANDOM % 20000))
        { : >"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null || { echo "$port"; return; }
    done
}

# The shell's own sockets: starting curl would take longer than what is measured.
is_ready() {
    local answer=""
    { exec 3<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null || return 1
    printf 'GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
    read -r -t 1 answer <&3 || true
    exec 3>&-
    [[ $answer == HTTP/1.?" 200"* ]]
}

starts=()
failed=0
printf '%4s  %10s  %12s\n' run "ready (ms)" "memory (KiB)"
for run in $(seq "$runs"); do
    home=$folder/$run
    mkdir -p "$home/state"
    port=$(free_port)
    began=$(now_ms)
    env -i PATH="$PATH" HOME="$home" "$binary" run --listen "127.0.0.1:$port" --state-dir "$home/state" \
        >"$home/log" 2>&1 </dev/null &
    daemon=$!
    until is_ready "$port"; do
        if ! kill -0 "$daemon" 2>/dev/null || [ $(($(now_ms) - began)) -gt "$ready_deadline_ms" ]; then
            tail -n 20 "$home/log" >&2
            echo "idle.sh: run $run: the daemon did not become ready; the end of its log is above" >&2
            exit 1
        fi
        sleep 0.005
    done
    ready=$(($(now_ms) - began))
    sleep "$idle_seconds"
    memory=$(awk '/^VmRSS:/ { print $2 }' "/proc/$daemon/status")
    if [ -z "$memory" ]; then
        tail -n 20 "$home/log" >&2
        echo "idle.sh: run $run: the daemon ended while idle; the end of its log is above" >&2
        exit 1
    fi
    kill "$daemon"
    wait "$daemon" 2>/dev/null || true
    daemon=""
    printf '%4s  %10s  %12s\n' "$run" "$ready" "$memory"
    starts+=("$ready")
    [ "$memory" -le "$memory_limit_kib" ] || failed=1
done

median=$(printf '%s\n' "${starts[@]}" | sort -n | sed -n "$(((runs + 1) / 2))p")
[ "$median" -le "$start_limit_ms" ] || failed=1
echo "median start $median ms (limit $start_limit_ms ms); memory limit $memory_limit_kib KiB"
if [ "$failed" -ne 0 ]; then
    echo "idle.sh: over the limit" >&2
    exit 1
fi
