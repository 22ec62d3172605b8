#!/usr/bin/env bash
# What fuzzing needs, once: a nightly compiler (the instrumentation is not stable) and cargo-fuzz, in TOOLS/cargo-fuzz-VERSION.
set -euo pipefail

version=0.13.2
tools=${TURNBACK_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/turnback/tools}
folder=$tools/cargo-fuzz-$version

rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal --no-self-update
[ -x "$folder/bin/cargo-fuzz" ] && exit 0
mkdir -p "$tools"
# Of two runs at once the second one waits, looks again and finds it.
exec 9>"$folder.lock"
flock 9
[ -x "$folder/bin/cargo-fuzz" ] && exit 0
echo "building cargo-fuzz $version"
work=$folder.part
rm -rf "$work"
cargo install --quiet --locked --version "$version" --root "$work" --target-dir "$work/target" cargo-fuzz
rm -rf "$work/target"
mv "$work" "$folder"
