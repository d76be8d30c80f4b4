"""Judges a site after its last strike: nothing lost, doubled or wrong, both sides the same.

The oracle of the scenarios holds the database against the meters' truth. Beside that, the gateway's
own history must have the rows, gaps and batches that the database has, its cursor must stand at its
last batch, the platform's own audit must find everything, and what was journaled at a kill must be
there as it was journaled. The account of a group begins with the first slot behind the announcement
of its catalogue, also where that start was killed before it read anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TypeVar

from edgeagg._core import read_segment
from edgeagg.batch import Batch
from edgeagg.model import Catalogue
from edgeagg_agent.history import Asked, History
from hil_tests import stored
from hil_tests.audited import audited
from hil_tests.chaos.life import Life
from hil_tests.chaos.witness import Row, Slot, Witness
from hil_tests.stored import Stored
from hil_tests.verdict import Verdict

_EVER_MS = 1 << 45
_SHOWN_MAX = 3

T = TypeVar("T")
Run = tuple[str, int, int, int, int]
"""A gap: meter, period, first and last due time in ms, reason."""


def judge_life(life: Life) -> Verdict:
    """Let everything of a site arrive and end it; add to its lies whatever is not as it must be."""
    verdict = life.scenario.finish()
    found = list(verdict.notes) or ([] if verdict.holds else ["nothing was read"])
    held = stored.load(life.chain.store)
    found += compare(life.chain.directory / "agent", held, life.witness)
    found += _unexplained(life.chain.store)
    found += _traces(life.chain.directory)
    life.toll.lies += [f"{life.chain.directory.name}: {text}" for text in found]
    return verdict


def compare(state: Path, held: Stored, witness: Witness) -> list[str]:
    """Return how the gateway's state directory and the database differ, and what was forgotten."""
    rows, gaps = history_of(state)
    rows_held = dict(_rows(held))
    found = _differences("rows", set(rows.items()), set(rows_held.items()))
    found += _differences("gaps", gaps, set(_gaps(held)))
    batches = batches_of(state)
    digests = {place: hashlib.sha256(message).digest() for place, message in batches.items()}
    found += _differences("batches", set(digests.items()), set(held.digests.items()))
    found += begun_wrong(list(map(Batch.from_bytes, batches.values())), rows, gaps)
    last = max((sequence for _, sequence in held.digests), default=0)
    if witness.receipted() != last:
        found.append(f"the cursor stands at {witness.receipted()}, the platform's last is {last}")
    journaled = set(witness.rows.items())
    forgotten = journaled - set(rows_held.items())
    if forgotten:
        text = f"{len(forgotten)} of {len(journaled)} rows that were journaled at a kill are not"
        found.append(f"{text} in the database as they were, such as {min(forgotten)}")
    return found


def history_of(state: Path) -> tuple[dict[Slot, Row], set[Run]]:
    rows: dict[Slot, Row] = {}
    gaps: set[Run] = set()
    for part in History(state).read(Asked(since_ms=0, until_ms=_EVER_MS)):
        for row in part.content.readings:
            slot = row.group.meter, row.group.period_ms, row.due_ms
            rows[slot] = row.at_ms, tuple(row.mantissas)
        for gap in part.content.gaps:
            of = gap.group.meter, gap.group.period_ms
            gaps.add((*of, gap.first_due_ms, gap.last_due_ms, gap.reason))
    return rows, gaps


def _rows(held: Stored) -> Iterator[tuple[Slot, Row]]:
    for group, readings in held.readings.items():
        for one in readings:
            yield (group.meter, group.period_ms, one.due_ms), (one.at_ms, one.mantissas)


def _gaps(held: Stored) -> Iterator[Run]:
    for group, gaps in held.gaps.items():
        for gap in gaps:
            of = group.meter, group.period_ms
            yield *of, gap.first_due_ms, gap.last_due_ms, gap.reason


def batches_of(state: Path) -> dict[tuple[int, int], bytes]:
    """Return the messages of a gateway by epoch and sequence, in their order."""
    found: dict[tuple[int, int], bytes] = {}
    for file in sorted(state.glob("batches-*/*.journal")):
        for _, _, message in read_segment(file):
            batch = Batch.from_bytes(message)
            found[batch.epoch, batch.sequence] = message
    return found


def begun_wrong(
    batches: Sequence[Batch], rows: Mapping[Slot, Row], gaps: AbstractSet[Run]
) -> list[str]:
    """Hold the first slot of every group against the first announcement, whose clock is right."""
    if not batches:
        return []
    announced_ms = batches[0].cut_at_ms
    last_ms = max(batch.cut_at_ms for batch in batches)
    firsts: dict[tuple[str, int], int] = {}
    for meter, period_ms, due_ms in [*rows, *(gap[:3] for gap in gaps)]:
        known_ms = firsts.setdefault((meter, period_ms), due_ms)
        firsts[meter, period_ms] = min(known_ms, due_ms)
    found = []
    for group in Catalogue.from_bytes(batches[0].payload).groups:
        wanted_ms = (announced_ms // group.period_ms + 1) * group.period_ms
        first_ms = firsts.get((group.meter, group.period_ms))
        if first_ms is None and wanted_ms + group.period_ms > last_ms:
            continue  # nothing of it fell due long enough before the end
        if first_ms != wanted_ms:
            name = f"{group.meter} each {group.period_ms} ms"
            found.append(f"{name}: the account begins at {first_ms}, not at {wanted_ms}")
    return found


def _differences(what: str, gateway: AbstractSet[T], platform: AbstractSet[T]) -> list[str]:
    found = []
    for here, there, side in ((gateway, platform, "gateway"), (platform, gateway, "platform")):
        if only := here - there:
            shown = sorted(map(repr, only))[:_SHOWN_MAX]
            found.append(f"{len(only)} {what} only the {side} has, such as {', '.join(shown)}")
    return found


def _unexplained(store: str) -> list[str]:
    found = audited(store)
    if found.is_whole:
        return []
    text = f"{found.unexplained} unexplained slots, {found.batches_missing} batches missing"
    return [f"the platform's audit finds {text}"]


def _traces(directory: Path) -> list[str]:
    """Find processes that ended by a mistake of ours rather than by a kill."""
    counts = {
        log.name: log.read_text("utf-8", errors="replace").count("Traceback")
        for log in sorted(directory.glob("*.log"))
    }
    return [f"{count} traces in {name}" for name, count in counts.items() if count]
