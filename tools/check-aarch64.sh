#!/usr/bin/env bash
# The crate's tests as aarch64 binaries under QEMU: golden files are read and written as on x86-64, and as shipped (release).
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/rust-env.sh

target=aarch64-unknown-linux-gnu
sysroot=${AARCH64_SYSROOT:-/usr/aarch64-linux-gnu}
fail() { printf 'make aarch64: %s\n' "$1" >&2; exit 1; }

missing=()
command -v aarch64-linux-gnu-gcc >/dev/null || missing+=(gcc-aarch64-linux-gnu)
[ -e "$sysroot/lib/libc.so.6" ] || missing+=(libc6-dev-arm64-cross)
command -v qemu-aarch64 >/dev/null || missing+=(qemu-user)
[ ${#missing[@]} = 0 ] || fail "install what is missing (Debian, Ubuntu: apt install ${missing[*]})."
[ -d "$(rustc --print target-libdir --target $target 2>/dev/null)" ] ||
    fail "this Rust has no library for $target: install it (rustup target add $target)."

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L $sysroot"
cargo test --quiet --release --locked --manifest-path aggregator-rs/Cargo.toml --target $target |
    awk '/^test result: ok/ { passed += $4 } /^test result: FAILED/ { failed = 1 } !/^test result: ok|^running|^[.i]*$|^$/
         END { if (!failed) print passed " tests passed as aarch64" }'
