#!/usr/bin/env bash
# Makes the folder of wheels that install.sh installs from: on a developer's machine, in a checkout, with a network.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CHECKOUT=$(cd "$HERE/../.." && pwd)
PYTHON=${PYTHON:-python3}
TARGET=aarch64
OUT=$HERE/wheelhouse
EDGEAGG_WHEEL=
PYTHON_VERSIONS='311 313' # Debian 12 and 13, and Raspberry Pi OS on them: some wheels are made for one of them only

usage() {
    cat <<'TEXT'
Usage: deploy/raspberrypi/wheelhouse.sh [options]

  --target CPU          aarch64 (default: any 64-bit Raspberry Pi), x86_64, or this (the CPU of this machine)
  --edgeagg-wheel FILE  the wheel of the package edgeagg, built for that CPU; needed when CPU is not this machine's,
                        as it holds compiled code. Make it on such a machine:  uv build --wheel
  --out DIR             where to (default: wheelhouse/ beside this script; wheels in it are replaced)
  --help                this text

Examples:
  wheelhouse.sh --target this
  wheelhouse.sh --edgeagg-wheel edgeagg-0.1.0-cp311-abi3-manylinux_2_28_aarch64.whl
TEXT
}

fail() { printf '\nedgeagg wheelhouse: %s\n' "$1" >&2; exit "${2:-1}"; }

read_options() {
    while [ $# -gt 0 ]; do
        case $1 in
            --target | --edgeagg-wheel | --out)
                [ $# -ge 2 ] || fail "$1 needs a value; see --help" 2
                case $1 in --target) TARGET=$2 ;; --out) OUT=$2 ;; *) EDGEAGG_WHEEL=$2 ;; esac
                shift
                ;;
            --help | -h) usage; exit 0 ;;
            *) fail "unknown option $1; see --help" 2 ;;
        esac
        shift
    done
    [ "$TARGET" != this ] || TARGET=$(uname -m)
    case $TARGET in
        aarch64 | x86_64) ;;
        *) fail "--target is aarch64, x86_64 or this, not $TARGET (32-bit systems have no wheels of msgpack)" 2 ;;
    esac
    if [ -n "$EDGEAGG_WHEEL" ]; then
        case $EDGEAGG_WHEEL in
            *"_$TARGET.whl") [ -f "$EDGEAGG_WHEEL" ] || fail "no file $EDGEAGG_WHEEL" 2 ;;
            *) fail "$EDGEAGG_WHEEL is not a wheel for $TARGET" 2 ;;
        esac
    elif [ "$TARGET" != "$(uname -m)" ]; then
        fail "edgeagg holds compiled code and this machine is $(uname -m), not $TARGET: give --edgeagg-wheel FILE, \
built by 'uv build --wheel' on a machine of that CPU" 2
    fi
}

find_uv() {
    UV=$(command -v uv || echo "$CHECKOUT/.tools/bin/uv")
    [ -x "$UV" ] || fail "no uv: run tools/bootstrap.sh first"
}

build_own() {
    if [ -n "$EDGEAGG_WHEEL" ]; then
        cp "$EDGEAGG_WHEEL" "$OUT/"
    else
        "$UV" build --quiet --wheel --out-dir "$OUT" "$CHECKOUT"
    fi
    "$UV" build --quiet --wheel --out-dir "$OUT" "$CHECKOUT/agent"
}

# Prints what our two wheels need, and what that needs: the entries of requirements.lock, hashes included.
locked_requirements() {
    "$UV" pip compile --quiet --no-header --no-annotate --python-version 3.11 --only-binary :all: \
        --python-platform "$TARGET-unknown-linux-gnu" --constraint "$CHECKOUT/requirements.lock" - \
        <<<"$(printf '%s\n' "$OUT"/edgeagg-*.whl "$OUT"/edgeagg_agent-*.whl)" |
        awk 'NR == FNR { if (/==/) wanted[$1] = 1; next }
             /^[^ #]/ { printing = $1 in wanted; delete wanted[$1] }
             printing && !/#/
             END { for (name in wanted) { print name " is not in requirements.lock" >"/dev/stderr"; exit 1 } }
            ' - "$CHECKOUT/requirements.lock"
}

download_others() {
    local version minor lock platforms=(--platform "linux_$TARGET" --platform "manylinux2014_$TARGET")
    for minor in $(seq 17 36); do # 2.36 is the C library of Debian 12
        platforms+=(--platform "manylinux_2_${minor}_$TARGET")
    done
    lock=$(locked_requirements) || fail "requirements.lock does not fit the packages; make it anew with tools/lock.sh"
    for version in $PYTHON_VERSIONS; do
        "$PYTHON" -m pip --disable-pip-version-check download --quiet --no-deps --require-hashes \
            --only-binary=:all: "${platforms[@]}" --implementation cp --python-version "$version" \
            --abi "cp$version" --abi abi3 --abi none --dest "$OUT" --requirement /dev/stdin <<<"$lock" ||
            fail "pip could not fetch every wheel for $TARGET and Python $version; the lines above name it"
    done
}

read_options "$@"
find_uv
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)
rm -f "$OUT"/*.whl "$OUT/SHA256SUMS"
build_own
download_others
(cd "$OUT" && sha256sum -- *.whl >SHA256SUMS)
printf '%s wheels for %s in %s\n' "$(find "$OUT" -name '*.whl' | wc -l)" "$TARGET" "$OUT"
