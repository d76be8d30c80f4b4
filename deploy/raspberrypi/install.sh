#!/usr/bin/env bash
# Installs, upgrades or removes the edgeagg agent on a gateway, from wheels beside it: no network, nothing compiled.
#
# It writes only the paths listed under "Where things go" and, outside --root, asks systemd and udev to take them up.
# The program lives in two slots, /opt/edgeagg.a and .b; /opt/edgeagg is a link to the one in use. So an upgrade is one
# rename, and whatever fails before it has changed nothing.
set -euo pipefail
umask 022 # root's own may be 077, and the service reads what is installed here as another user

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PYTHON=${PYTHON:-python3}
WHEELHOUSE=$HERE/wheelhouse
ROOT='' DRY_RUN='' UNINSTALL='' PURGE=''
OLD_SLOT='' NEW_SLOT='' WAS_ACTIVE='' SWITCHED='' DONE=''

# Where things go, below $ROOT
OPT=/opt
COMMAND=/usr/local/bin/edgeagg-agent
CONFIG=/etc/edgeagg
STATE=/var/lib/edgeagg
SITE=$CONFIG/site.toml
UNIT=/etc/systemd/system/edgeagg-agent.service
WANTED=/etc/systemd/system/multi-user.target.wants/edgeagg-agent.service
RULES=/etc/udev/rules.d/60-edgeagg-rs485.rules
SYSUSERS=/etc/sysusers.d/edgeagg.conf
TMPFILES=/etc/tmpfiles.d/edgeagg.conf

usage() {
    cat <<'TEXT'
Usage: sudo ./install.sh [options]

Installs the edgeagg agent, or upgrades it when it is installed already.
Your /etc/edgeagg/site.toml is never overwritten.

  --wheelhouse DIR  the wheels to install (default: wheelhouse/ beside this script; made by wheelhouse.sh)
  --dry-run         print every action, change nothing; needs no root
  --uninstall       remove the program; keeps /etc/edgeagg and the readings in /var/lib/edgeagg
  --purge           with --uninstall: remove those and the user edgeagg, too
  --root DIR        install below DIR, the root of an image for this CPU and Python; starts nothing, needs no root
  --help            this text

Examples:
  ./install.sh --dry-run                     see what would happen
  sudo ./install.sh                          install, or upgrade
  sudo ./install.sh --wheelhouse /media/usb/wheelhouse
  sudo ./install.sh --uninstall --purge      remove every trace

Exit status: 0 done, 1 something is missing or failed (the text says what), 2 wrong usage or not root.
TEXT
}

say() { printf '%s\n' "$*"; }
fail() { printf '\nedgeagg install: %s\n' "$1" >&2; exit "${2:-1}"; }
wrong_usage() { fail "$1; see $0 --help" 2; }

# Prints an action and, unless this is a dry run, does it.
run() {
    printf ' '
    printf ' %q' "$@"
    printf '\n'
    [ -n "$DRY_RUN" ] || "$@"
}

# require WHY COMMAND…: stops with WHY unless COMMAND succeeds; a dry run only says so.
require() {
    local why=$1
    shift
    "$@" >/dev/null 2>&1 && return
    [ -n "$DRY_RUN" ] || fail "$why"
    say "  ! would stop here: $why"
}

read_options() {
    while [ $# -gt 0 ]; do
        case $1 in
            --wheelhouse | --root)
                [ $# -ge 2 ] || wrong_usage "$1 needs a folder"
                if [ "$1" = --root ]; then ROOT=${2%/}; else WHEELHOUSE=$2; fi
                shift
                ;;
            --dry-run) DRY_RUN=1 ;;
            --uninstall) UNINSTALL=1 ;;
            --purge) PURGE=1 ;;
            --help | -h) usage; exit 0 ;;
            *) wrong_usage "unknown option $1" ;;
        esac
        shift
    done
    [ -z "$PURGE" ] || [ -n "$UNINSTALL" ] || wrong_usage "--purge goes with --uninstall"
    [ -z "$ROOT" ] || ROOT=$(cd "$ROOT" 2>/dev/null && pwd) || wrong_usage "--root: no such folder"
    [ -n "$ROOT$DRY_RUN" ] || [ "$(id -u)" = 0 ] || fail "needs root: sudo $0 (or look first: $0 --dry-run)" 2
}

# True where we work on the running system and not on the tree of an image.
live() { [ -z "$ROOT" ]; }
active() { live && systemctl is-active --quiet edgeagg-agent 2>/dev/null; }

check_machine() {
    say "Checking this machine"
    require "no $PYTHON. Install Python 3.11 or newer: apt install python3 python3-venv" command -v "$PYTHON"
    require "$PYTHON is too old: 3.11 or newer is needed (Debian 12, Raspberry Pi OS bookworm, or newer)" \
        "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'
    require "Python's venv module is incomplete: apt install python3-venv" "$PYTHON" -c 'import venv, ensurepip'
    require "no agent in $WHEELHOUSE: make the wheelhouse with wheelhouse.sh, or name it with --wheelhouse" \
        compgen -G "$WHEELHOUSE/edgeagg_agent-*.whl"
    if [ -e "$WHEELHOUSE/SHA256SUMS" ]; then
        require "$WHEELHOUSE is damaged: a file does not match SHA256SUMS. Copy it again" wheels_are_whole
    fi
    if live; then require "systemd is not running here; --root installs into an image" test -d /run/systemd/system; fi
    if [ -e "$ROOT$OPT/edgeagg" ] && [ ! -L "$ROOT$OPT/edgeagg" ]; then
        require "$ROOT$OPT/edgeagg is not a link of this script's: move it away" false
    fi
}

wheels_are_whole() { (cd "$WHEELHOUSE" && sha256sum --check --quiet SHA256SUMS); }

build_slot() {
    OLD_SLOT=$(readlink "$ROOT$OPT/edgeagg" || true)
    if [ "$OLD_SLOT" = edgeagg.a ]; then NEW_SLOT=edgeagg.b; else NEW_SLOT=edgeagg.a; fi
    local slot=$ROOT$OPT/$NEW_SLOT
    say "Building the new program in $slot"
    run mkdir -p "$ROOT$OPT"
    run rm -rf "$slot"
    trap undo EXIT
    run "$PYTHON" -m venv "$slot"
    run "$slot/bin/python" -m pip --isolated --disable-pip-version-check install --quiet \
        --no-index --find-links "$WHEELHOUSE" edgeagg-agent ||
        fail "the wheelhouse does not fit this machine ($(uname -m), $("$PYTHON" --version)): pip says why, above"
    live || [ -n "$DRY_RUN" ] || strip_root "$slot"
    # Through its Python, as the path in the script's first line may be the image's.
    run "$slot/bin/python" "$slot/bin/edgeagg-agent" --version ||
        fail "the new program does not start; nothing was changed"
}

# A virtual environment names its own path in its scripts; in an image that path has no prefix.
strip_root() {
    grep -rlIFZ "$ROOT$OPT/" "$1/bin" "$1/pyvenv.cfg" | xargs -0 sed -i "s|$ROOT$OPT/|$OPT/|g"
}

# Leaves the program as it was, whatever ended this script early.
undo() {
    [ -z "$DONE$DRY_RUN" ] || return 0
    if [ -n "$SWITCHED" ]; then
        [ -n "$OLD_SLOT" ] || return 0 # a first installation has nothing to go back to
        point_at "$OLD_SLOT"
    fi
    rm -rf "$ROOT${OPT:?}/$NEW_SLOT"
    [ -z "$WAS_ACTIVE" ] || systemctl start edgeagg-agent
}

# As the service's user, so that a port or file it may not open is found here.
check_site() { run runuser -u edgeagg -- "$OPT/$NEW_SLOT/bin/edgeagg-agent" check "$SITE"; }

# A service that ran proves that the old program takes site.toml; the new one must, too.
stop_service() {
    active || return 0
    WAS_ACTIVE=1
    say "Stopping the service and trying site.toml with the new program"
    run systemctl stop edgeagg-agent # one bus has one owner, and the check opens the ports
    check_site || fail "the new program refuses $SITE (above), the old one runs on; nothing was changed"
}

point_at() {
    run ln -sfn "$1" "$ROOT$OPT/edgeagg.new"
    run mv -T "$ROOT$OPT/edgeagg.new" "$ROOT$OPT/edgeagg"
}

install_files() {
    say "Installing"
    run install -D -m 0644 "$HERE/edgeagg-agent.service" "$ROOT$UNIT"
    run install -D -m 0644 "$HERE/60-edgeagg-rs485.rules" "$ROOT$RULES"
    run install -D -m 0644 "$HERE/sysusers.conf" "$ROOT$SYSUSERS"
    run install -D -m 0644 "$HERE/tmpfiles.conf" "$ROOT$TMPFILES"
    run mkdir -p "$ROOT$CONFIG"
    [ -e "$ROOT$SITE" ] || run install -m 0640 "$HERE/site.toml" "$ROOT$SITE"
    if live; then
        run systemd-sysusers "$SYSUSERS"
        run systemd-tmpfiles --create "$TMPFILES" # gives /etc/edgeagg to root:edgeagg, site.toml 0640
    fi
}

switch_slot() {
    say "Switching to the new program"
    SWITCHED=1
    point_at "$NEW_SLOT"
    run mkdir -p "$ROOT$(dirname "$COMMAND")" "$ROOT$(dirname "$WANTED")"
    run ln -sfn "$OPT/edgeagg/bin/edgeagg-agent" "$ROOT$COMMAND"
    run ln -sfn "$UNIT" "$ROOT$WANTED"
    live || return 0
    run systemctl daemon-reload
    run udevadm control --reload
    run udevadm trigger --subsystem-match=tty --subsystem-match=usb-serial
}

start_service() {
    live || return 0
    if [ -z "$WAS_ACTIVE" ]; then
        if [ ! -e "$SITE" ] || cmp -s "$HERE/site.toml" "$SITE"; then
            say "Not started: $SITE is the example as yet"
            return
        fi
        check_site || { say "Not started: $SITE needs a change (above)"; return; }
    fi
    run systemctl start edgeagg-agent ||
        fail "the service does not start: journalctl -u edgeagg-agent -n 50${OLD_SLOT:+; the old program is back}"
}

drop_old_slot() {
    DONE=1
    [ -z "$OLD_SLOT" ] || run rm -rf "$ROOT${OPT:?}/$OLD_SLOT"
}

next_steps() {
    say ""
    if active; then
        say "The agent runs. Next:"
        say "  1. sudo edgeagg-agent status $SITE     does every meter answer, is the platform connected?"
        say "  2. journalctl -u edgeagg-agent -f      what the agent says"
        say "  3. reboot once and look at 1 again     does it come back by itself?"
    else
        say "Installed, not running. Next:"
        say "  1. sudo nano $SITE     buses, meters, platform"
        say "  2. sudo edgeagg-agent check $SITE; the same with read shows the meters"
        say "  3. sudo systemctl start edgeagg-agent; sudo edgeagg-agent status $SITE"
    fi
}

uninstall() {
    say "Removing the agent"
    if live && [ -e "$UNIT" ]; then run systemctl disable --now edgeagg-agent; fi
    run rm -f "$ROOT$WANTED" "$ROOT$UNIT" "$ROOT$RULES" "$ROOT$COMMAND" "$ROOT$OPT/edgeagg"
    run rm -rf "$ROOT${OPT:?}/edgeagg.a" "$ROOT${OPT:?}/edgeagg.b"
    if [ -n "$PURGE" ]; then
        run rm -rf "$ROOT${CONFIG:?}" "$ROOT${STATE:?}"
        run rm -f "$ROOT$SYSUSERS" "$ROOT$TMPFILES"
        if live && id edgeagg >/dev/null 2>&1; then run userdel edgeagg; fi
    else
        say "Kept: $ROOT$CONFIG, $ROOT$STATE and the user edgeagg; --uninstall --purge removes them."
    fi
    live || return 0
    run systemctl daemon-reload
    run udevadm control --reload
}

main() {
    read_options "$@"
    [ -z "$DRY_RUN" ] || say "Dry run: nothing is changed."
    if [ -n "$UNINSTALL" ]; then
        uninstall
        return
    fi
    check_machine
    build_slot
    stop_service
    install_files
    switch_slot
    start_service
    drop_old_slot
    next_steps
}

main "$@"
