#!/usr/bin/env bash
# Throws bytes at everything that outsiders reach: fuzz.sh [SECONDS [TARGET...]]. 60 s for each target, two at a time. Fails at
# the first finding, and says where its input lies. What was found interesting is kept in the cache folder and is where
# the next run begins; the seeds are in tests/fuzz/seeds.
set -euo pipefail

seconds=${1:-60}
shift || true
cache=${XDG_CACHE_HOME:-$HOME/.cache}/turnback
tools=${TURNBACK_TOOLS:-$cache/tools}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../tests/fuzz" && pwd)
export CARGO_TARGET_DIR=$cache/fuzz-target
PATH=$(echo "$tools"/cargo-fuzz-*/bin | tr ' ' ':'):$PATH
host=$(rustc -vV | sed -n 's/^host: //p')

cd "$here"
# No sanitizer: the code is safe Rust, and without one it is tried ten times as often.
cargo +nightly fuzz build --fuzz-dir . --sanitizer none
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(sed -n 's/^name = "\(.*\)"/\1/p' Cargo.toml | tail -n +2)

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
try() {
    local target=$1 corpus=$cache/fuzz/$1
    mkdir -p "$corpus"
    # Five seconds for one input, or a gigabyte, are a finding too.
    if "$CARGO_TARGET_DIR/$host/release/$target" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -max_len=65536 \
        -print_final_stats=1 -artifact_prefix="$cache/fuzz/finding-$target-" "$corpus" "seeds/$target" >"$results/$target" 2>&1
    then
        awk -v target="$target" '/number_of_executed_units/ { runs = $2 } / cov: / { for (i = 1; i < NF; i++) { if ($i == "cov:") cov = $(i + 1); if ($i == "corp:") corp = $(i + 1) } }
            END { printf "%-20s %12d runs  %7d edges  corpus %-12s no finding\n", target, runs, cov, corp }' "$results/$target"
    else
        tail -n 40 "$results/$target"
        echo "$target: A FINDING, its input is $cache/fuzz/finding-$target-*"
        return 1
    fi
}

failed=0
running=()
for target in "${targets[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge 2 ]; do sleep 0.5; done
    try "$target" &
    running+=($!)
done
for process in "${running[@]}"; do
    wait "$process" || failed=1
done
exit "$failed"
