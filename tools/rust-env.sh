# shellcheck shell=bash
# Sourced: puts a Rust toolchain on PATH, wherever it is: the system's, rustup's, or the one that the set-up fetched.

PATH="$PATH:$HOME/.cargo/bin"
if [ -s .tools/rust.env ]; then
    # shellcheck source=/dev/null
    . .tools/rust.env
fi

# The crate builds on 1.85 (its rust-version), so a distribution's own compiler will do.
rust_is_new_enough() {
    command -v cargo >/dev/null && command -v rustc >/dev/null &&
        rustc --version 2>/dev/null | awk '{split($2, v, "."); exit !(v[1] > 1 || v[2] >= 85)}'
}
