#!/usr/bin/env bash
# Brings everything a checkout needs: uv, the locked Python packages, a Rust toolchain, both distributions (editable).
# Writes only into this checkout and the user's caches. Needs no root.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf '\nedgeagg set-up: %s\n' "$1" >&2; exit 1; }
step() { printf '  %s\n' "$1"; }

PYTHON=${PYTHON:-python3}
export UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=${UV_LINK_MODE:-copy}

command -v "$PYTHON" >/dev/null || fail "no $PYTHON found. Install Python 3.11 or newer (Debian: apt install python3 python3-venv)."
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$PYTHON" --version) is too old: 3.11 or newer is needed. Name another one with PYTHON=python3.12 make …"

# Behind a company's proxy only the system knows the proxy's certificate.
if [ -e /etc/ssl/certs/ca-certificates.crt ]; then export UV_SYSTEM_CERTS=1; fi

find_uv() {
    if command -v uv >/dev/null; then UV=uv; return; fi
    if [ ! -x .tools/bin/uv ]; then
        step "uv (into .tools)"
        rm -rf .tools
        "$PYTHON" -m venv .tools >/dev/null 2>&1 || {
            rm -rf .tools
            fail "Python's venv module is incomplete here. Install it (Debian, Ubuntu, Raspberry Pi OS: apt install python3-venv)."
        }
        .tools/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9' ||
            fail "pip could not fetch uv: check the network, or install uv yourself and put it on PATH."
    fi
    UV=.tools/bin/uv
}

find_rust() {
    command -v cc >/dev/null || fail "no C compiler found, which Rust needs to link. Install one (Debian: apt install gcc) and run this again."
    . tools/rust-env.sh
    rust_is_new_enough && return
    mkdir -p .tools
    step "a Rust toolchain (into the user's cache)"
    if "$UV" tool run --quiet --from 'puccinialin>=0.1' puccinialize --info-json .tools/rust.json >/dev/null 2>&1; then
        "$PYTHON" - .tools/rust.json > .tools/rust.env <<'PYTHON'
import json, shlex, sys
for name, value in json.load(open(sys.argv[1]))["env"].items():
    print(f"export {name}={shlex.quote(value)}")
PYTHON
        . tools/rust-env.sh
        rust_is_new_enough && return
        rm -f .tools/rust.env
    fi
    fail "no Rust 1.85 or newer found and none could be fetched. Install one (Debian 13: apt install cargo; Debian 12: apt install cargo-web rustc-web; elsewhere: rustup) and run this again."
}

install_dependencies() {
    [ -x .venv/bin/python ] || { step "a virtual environment (.venv)"; "$UV" venv --quiet --python "$PYTHON" .venv; }
    if ! cmp -s requirements.lock .venv/.requirements.lock; then
        step "Python packages (requirements.lock)"
        "$UV" pip sync --quiet --python .venv/bin/python --require-hashes requirements.lock
        rm -f .venv/.built
        cp requirements.lock .venv/.requirements.lock
    fi
}

sources_changed() {
    [ ! -e .venv/.built ] || [ -n "$(find pyproject.toml agent/pyproject.toml aggregator-rs/Cargo.toml aggregator-rs/Cargo.lock \
        aggregator-rs/src -newer .venv/.built -print -quit)" ]
}

build() {
    sources_changed || return 0
    find_rust
    step "edgeagg and edgeagg-agent (the Rust core takes a minute the first time)"
    "$UV" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation -e . -e agent ||
        fail "the build failed; the lines above say why."
    touch .venv/.built
}

[ -f requirements.lock ] || fail "requirements.lock is missing: this is not a whole checkout."
find_uv
install_dependencies
build
