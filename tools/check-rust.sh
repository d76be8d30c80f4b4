#!/usr/bin/env bash
# Form, lints and tests of the crate.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/rust-env.sh

crate=(--manifest-path aggregator-rs/Cargo.toml)

# A distribution's cargo comes without these two; only CI must have them.
has() {
    cargo "$1" --version >/dev/null 2>&1 && return
    [ -z "${CI:-}" ] || { echo "cargo $1 is missing: CI checks with it" >&2; exit 1; }
    echo "not checked here: cargo $1 is not installed (Debian: apt install rustfmt rust-clippy; rustup component add rustfmt clippy)"
    return 1
}

if has fmt; then cargo fmt "${crate[@]}" --check; fi
if has clippy; then cargo clippy --quiet --locked "${crate[@]}" --all-targets --features python -- -D warnings; fi
cargo test --quiet --locked "${crate[@]}"
