"""What the agent says of itself: the status file for people, the notices for systemd."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeagg_agent.clock import ClockState, JudgedClock, Trust
from edgeagg_agent.clock_trust import words
from edgeagg_agent.held import Held
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.poller import Poller
from edgeagg_agent.recorder import Recorder
from edgeagg_agent.site import BusConfig, Site
from edgeagg_agent.uplink import Uplink

STUCK_MS = 20_000
"""A bus whose task has not come round for this long is stuck."""


def status(
    site: Site,
    pollers: Sequence[Poller],
    recorder: Recorder,
    outbox: Outbox,
    uplinks: Sequence[Uplink],
    *,
    planned_shares: Mapping[str, float],
    uptime_ms: int,
    clock: JudgedClock,
) -> dict[str, Any]:
    """Return the whole state as plain JSON values.

    `planned_shares` says by name which share of a bus its plan takes.
    """
    counters = recorder.counters
    slots = counters.values + counters.reasons + counters.missed
    return {
        "gateway": site.gateway,
        "pid": os.getpid(),
        "at_ms": clock.now_ms(),
        "uptime_s": uptime_ms // 1000,
        "epoch": outbox.epoch,
        "buses": [
            _bus(config, poller, planned_shares[config.name], uptime_ms)
            for config, poller in zip(site.buses, pollers, strict=True)
        ],
        "slots": {
            "cut": slots,
            "values": counters.values,
            "reasons": counters.reasons,
            "missed": counters.missed,
        },
        "windows": counters.windows,
        "clock": _clock(clock.state, recorder.held),
        "batches": {
            "cut": counters.batches,
            "bytes": counters.batch_bytes,
            "head": outbox.head,
            "kept_bytes": outbox.bytes_count,
            "dropped": outbox.dropped_count,
        },
        "disk": {
            "refuses": recorder.is_refused,
            "refusals": counters.refusals,
            "waiting_bytes": recorder.waiting_bytes,
            "not_kept": counters.not_kept,
        },
        "repairs": {
            "torn_bytes": outbox.repairs[0],
            "lost_batches": outbox.repairs[1],
            "damaged_readings": counters.damaged,
        },
        "destinations": [
            {
                "name": uplink.name,
                "connected": uplink.is_connected,
                "receipted": uplink.sender.through,
                "waiting": uplink.waiting_count,
                "resent": uplink.sender.resent_count,
                "dropped": uplink.dropped_count,
            }
            for uplink in uplinks
        ],
    }


def _clock(state: ClockState, held: Held) -> dict[str, Any]:
    return {
        "trust": state.trust.name.lower(),
        "is_trusted": state.trust >= Trust.PLATFORM,
        "unconfirmed_s": state.unconfirmed_s,
        "steps": state.steps,
        "last_step_ms": state.last_step_ms,
        "waiting_rows": len(held),
        "retimed_rows": held.retimed_count,
        "surplus_rows": held.surplus_count,
        "text": words(state, len(held) if held else None),
    }


def _bus(config: BusConfig, poller: Poller, planned_share: float, uptime_ms: int) -> dict[str, Any]:
    stats = poller.bus.stats
    return {
        "name": config.name,
        "where": config.where,
        "planned_share": round(planned_share, 3),
        "busy_share": round(stats.busy_s * 1000 / uptime_ms, 3) if uptime_ms > 0 else 0.0,
        "transactions": stats.transactions,
        "no_reply": stats.no_reply,
        "bad_frame": stats.bad_frame,
        "refused": stats.refused,
        "late_replies": stats.late_replies,
        "noise_bytes": stats.noise_bytes,
        "echoes": stats.echoes,
        "doubles": stats.doubles,
        "reshaped": stats.reshaped,
        "held_back": stats.held_back,
        "retuned": stats.retuned,
        "retries": poller.tally.retries,
        "overrun_slots": poller.tally.overrun_slots,
        "reopened": stats.reopened,
        "meters": [
            {
                "name": reader.meter.name,
                "address": str(reader.meter.address),
                "quality": reader.state.last_quality.name.lower(),
                "trouble": reader.trouble,
            }
            for reader in poller.readers
        ],
    }


def write_status(file: Path, values: dict[str, Any]) -> None:
    """Replace the status file in one step."""
    new = file.with_name(f".{file.name}.new")
    new.write_text(json.dumps(values, indent=1), encoding="utf-8")
    new.replace(file)


def is_alive(pollers: Sequence[Poller], now_ms: int) -> bool:
    """Whether every bus has come round lately."""
    return all(now_ms - poller.beat_ms < STUCK_MS for poller in pollers)


def notify_systemd(message: str) -> None:
    """Tell systemd, where it listens (sd_notify(3)); elsewhere do nothing."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notice:
        notice.sendto(message.encode(), address)
