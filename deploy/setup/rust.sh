#!/usr/bin/env bash
# Says in one line what to do if Rust is missing or older than `rust-version` in Cargo.toml: rust.sh [COMPONENT...]
# Installs nothing: a toolchain is the user's own choice, and a rust-toolchain file would force a download.
set -euo pipefail
cd "$(dirname "$0")/../.."

minimum=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
install="curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y"

if ! command -v cargo >/dev/null 2>&1 || ! command -v rustc >/dev/null 2>&1; then
    echo "Rust is missing ($minimum or newer is needed): $install" >&2
    exit 1
fi

found=$(rustc --version | awk '{print $2}')
if [ "$(printf '%s\n%s\n' "$minimum" "$found" | sort -V | head -n 1)" != "$minimum" ]; then
    if command -v rustup >/dev/null 2>&1; then
        echo "Rust $found is too old ($minimum or newer is needed): rustup update stable && rustup default stable" >&2
    else
        echo "Rust $found is too old ($minimum or newer is needed): $install" >&2
    fi
    exit 1
fi

for component in "$@"; do
    # `cargo fmt` is the component rustfmt; clippy is called by its own name.
    if ! cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1; then
        if command -v rustup >/dev/null 2>&1; then
            echo "the Rust component $component is missing: rustup component add $component" >&2
        else
            echo "the Rust component $component is missing, and this Rust is not from rustup: $install" >&2
        fi
        exit 1
    fi
done
