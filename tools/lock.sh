#!/usr/bin/env bash
# Resolves every dependency anew and writes requirements.lock: versions and hashes, no addresses.
set -euo pipefail
cd "$(dirname "$0")/.."
UV=$(command -v uv || echo .tools/bin/uv)
"$UV" lock --quiet "$@"
"$UV" export --quiet --all-packages --all-extras --all-groups --no-emit-workspace --no-header \
    --no-emit-index-url --format requirements-txt > requirements.lock
