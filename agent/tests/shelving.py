"""A gateway's past that is long enough to become day files, and what history says of it.

A "day" of these tests is half a minute of the histories that `histories` makes up.
"""

import datetime as dt
from collections import Counter

from agent.tests.fakes import START_MS, FakeClock, catalogue
from agent.tests.histories import Gateway, history
from edgeagg.batch import Batch
from edgeagg_agent import historian as historian_module
from edgeagg_agent import outbox as outbox_module
from edgeagg_agent import recorder as recorder_module
from edgeagg_agent.historian import LOOK_S, Historian
from edgeagg_agent.history import Asked, History
from edgeagg_agent.outbox import Outbox

PLANT = catalogue(("incomer", 1_000), ("pv", 2_000), ("incomer", 4_000))
DAY_MS = 30_000
SECONDS = 200
FILES = 7
"""Six days and a piece of the seventh, behind which the last cut stands."""
HOUR_MS = 3_600_000
BYTES_MAX = 64 << 20
READINGS = Asked(since_ms=0, until_ms=2**45)
WINDOWS = Asked(since_ms=0, until_ms=2**45, length_ms=10_000)


def short_days(monkeypatch, segment_bytes=4096):
    """Let a day of the site's calendar be short, and segments small."""
    for module in (outbox_module, recorder_module):
        monkeypatch.setattr(module, "_SEGMENT_BYTES", segment_bytes)
    monkeypatch.setattr(historian_module, "date_of", date_of)


def date_of(at_ms, _):
    return dt.date(2026, 1, 1) + dt.timedelta(days=max(0, at_ms - START_MS) // DAY_MS)


async def lived(folder, seed=1, seconds=SECONDS, plant=PLANT):
    """Let a gateway record for some seconds; return the steps it took."""
    steps = history(seed, plant, seconds)
    await Gateway(folder, plant).play(steps)
    return steps


def opened(folder, *, delivered=None, bytes_max=BYTES_MAX, destinations=("platform",)):
    """Open an outbox whose destinations have everything, or up to `delivered`."""
    outbox = Outbox(folder, now_ms=START_MS, bytes_max=bytes_max)
    for destination in destinations:
        outbox.cursor(destination).advance(outbox.head if delivered is None else delivered)
    return outbox


def historian(folder, outbox, clock=None, *, resend_ms=HOUR_MS, history_ms=10**12):
    return Historian(
        folder,
        outbox,
        clock or FakeClock(START_MS + SECONDS * 1_000),
        local_time=None,
        resend_ms=resend_ms,
        history_ms=history_ms,
    )


def make_all(worker, clock):
    """Do all there is to do, however many steps it takes."""
    for _ in range(200):
        worker.step()
        clock.pass_ms(1)
        if worker._work is None and worker._next_look_s > clock.monotonic_s():
            break
    worker.step()
    worker.free()
    worker.close()
    clock.pass_ms(int(LOOK_S * 1000) + 1)


def shelve(folder, **options):
    """Make every day file that can be made; return the outbox's first sequence then."""
    outbox, clock = opened(folder), FakeClock(START_MS + SECONDS * 1_000)
    make_all(historian(folder, outbox, clock, **options), clock)
    outbox.close()
    return outbox.first


def contents(folder, asked=READINGS):
    """Return all that history holds, as a multiset of rows, and how much could not be read."""
    told = History(folder)
    rows = Counter()
    for part in told.read(asked):
        for name in ("readings", "gaps", "windows", "audits", "demands"):
            if name != "windows" or asked.length_ms is not None:
                rows.update(getattr(part.content, name))
    return rows, told.unreadable


def both(folder):
    """Return everything of both families of rows; fails where something could not be read."""
    found = [contents(folder, asked) for asked in (READINGS, WINDOWS)]
    assert [unreadable for _, unreadable in found] == [0, 0]
    readings = Counter({row: n for row, n in found[0][0].items() if hasattr(row, "group")})
    return readings, Counter({r: n for r, n in found[1][0].items() if hasattr(r, "covered_ms")})


def day_files(folder):
    return sorted((folder / "history").glob("*.day"))


def dates(messages):
    return [date_of(Batch.from_bytes(message).cut_at_ms, None) for message in messages]
