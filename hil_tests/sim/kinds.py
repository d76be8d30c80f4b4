"""The faults of a line or a meter by name: what each does to one reply.

Owns the table `KINDS` with the parameters of each kind. When a fault is active and whom it strikes
is `hil_tests.sim.faults`' business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from hil_tests.sim import damage
from hil_tests.sim.framing import Framing


@dataclass(frozen=True, slots=True)
class Burst:
    """Bytes that one speaker puts on the wire in one go.

    The delay is on top of the turnaround, or of the end of the burst before.
    """

    data: bytes
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a fault may look at: the good reply, the one before it, how bodies are wrapped."""

    reply: bytes
    previous: bytes
    framing: Framing
    rng: Random
    parameters: Mapping[str, float]

    def __getitem__(self, name: str) -> float:
        """Return a parameter of the fault."""
        return self.parameters[name]

    def count(self, name: str) -> int:
        """Return a parameter that is a whole number."""
        return int(self.parameters[name])


Change = Callable[[Burst, Exchange], Sequence[Burst]]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault; without `change` it is done by the line or the meter itself."""

    text: str
    change: Change | None = None
    parameters: Mapping[str, float] = field(default_factory=dict)
    probability: float = 1.0  # unless the scenario says otherwise
    tcp: bool = True  # possible on Modbus TCP
    whole_line: bool = False  # strikes all meters of the line
    needs_end: bool = False
    addressed: str = ""  # what it is on DL/T 645 and CJ/T 188, if not what `text` says


def _wire(change: Callable[[bytes, Exchange], bytes]) -> Change:
    """Make a fault of a function over the bytes on the wire."""

    def changed(burst: Burst, of: Exchange) -> Sequence[Burst]:
        return (replace(burst, data=change(burst.data, of)),)

    return changed


def _body(change: Callable[[bytes, Exchange], bytes]) -> Change:
    """Make a fault of a function over the body; the checksum is right again behind it."""

    def changed(burst: Burst, of: Exchange) -> Sequence[Burst]:
        body = of.framing.unwrap(burst.data)
        if body is None:  # damaged by another fault already
            return (burst,)
        return (replace(burst, data=of.framing.wrap(change(body, of))),)

    return changed


def _inside(data: bytes, of: Exchange) -> bytes:
    place = of.rng.randrange(1, max(2, len(data)))
    return data[:place] + damage.noise(of.count("bytes"), of.rng) + data[place:]


def _late(burst: Burst, of: Exchange) -> Sequence[Burst]:
    return (replace(burst, delay_s=burst.delay_s + of["ms"] / 1000),)


def _split(burst: Burst, of: Exchange) -> Sequence[Burst]:
    half = len(burst.data) // 2
    return (
        replace(burst, data=burst.data[:half]),
        Burst(burst.data[half:], of["ms"] / 1000),
    )


def _collision(data: bytes, of: Exchange) -> bytes:
    """Let a second meter give another answer a little later, over the first one."""
    body = of.framing.unwrap(data)
    other = data if body is None else of.framing.wrap(of.framing.flip_values(body, 7, of.rng))
    return damage.overlay(data, other, lag_chars=of.rng.randrange(1, max(2, len(data) // 2)))


def _nothing(_burst: Burst, _of: Exchange) -> Sequence[Burst]:
    return ()


KINDS: Mapping[str, Kind] = {
    "noise_before": Kind(
        "random bytes directly in front of the reply (a driver that switches on)",
        _wire(lambda data, of: damage.noise(of.count("bytes"), of.rng) + data),
        {"bytes": 2},
        tcp=False,
    ),
    "noise_inside": Kind(
        "random bytes pushed into the reply", _wire(_inside), {"bytes": 1}, tcp=False
    ),
    "noise_after": Kind(
        "random bytes directly behind the reply",
        _wire(lambda data, of: data + damage.noise(of.count("bytes"), of.rng)),
        {"bytes": 2},
        tcp=False,
    ),
    "bit_error_bad_crc": Kind(
        "bits of the reply turned over; the checksum tells",
        _wire(lambda data, of: damage.flip(data, of.count("bits"), of.rng)),
        {"bits": 1},
        tcp=False,
    ),
    "bit_error_good_crc": Kind(
        "bits of the registers turned over, checksum right: only plausibility can tell",
        _body(lambda body, of: of.framing.flip_values(body, of.count("bits"), of.rng)),
        {"bits": 1},
    ),
    "truncated": Kind(
        "the last bytes of the reply are missing",
        _wire(lambda data, of: data[: max(1, len(data) - of.count("bytes"))]),
        {"bytes": 3},
    ),
    "merged": Kind(
        "the reply twice without a gap, as one piece", _wire(lambda data, _: data + data)
    ),
    "stale": Kind(
        "the meter's previous reply directly in front of the right one",
        _wire(lambda data, of: of.previous + data),
    ),
    "split": Kind("a pause of `ms` in the middle of the reply", _split, {"ms": 30}),
    "short": Kind(
        "fewer registers than asked for, with a byte count and a checksum that fit them",
        _body(lambda body, of: of.framing.shorten(body, of.count("registers"))),
        {"registers": 1},
        addressed="two bytes behind the identifier for each register, length and sum fit",
    ),
    "wrong_unit": Kind(
        "the reply carries another unit id (`unit`, 0 = the next one)",
        _body(lambda body, of: of.framing.from_other_meter(body, of.count("unit"))),
        {"unit": 0},
        addressed="another address: its last two digits",
    ),
    "wrong_function": Kind(
        "function 4 answers function 3 and the other way round",
        _body(lambda body, of: of.framing.other_function(body)),
        addressed="the control code of another kind of read",
    ),
    "busy": Kind(
        "exception 6, the meter is busy",
        _body(lambda body, of: of.framing.refusal(body)),
        addressed="abnormal reply",
    ),
    "slow": Kind("`ms` more turnaround, within what masters allow", _late, {"ms": 60}),
    "late": Kind("the reply comes `ms` later, when the master has given up", _late, {"ms": 600}),
    "collision": Kind(
        "two meters on one address: both talk, their bytes are mixed",
        _wire(_collision),
        tcp=False,
    ),
    "wrong_baud": Kind(
        "the meter's bits last `ratio` times as long as the line's: garbage",
        _wire(lambda data, of: damage.misread(data, ratio=of["ratio"])),
        {"ratio": 2.0},
        tcp=False,
    ),
    "dead": Kind("no reply", _nothing),
    "intermittent": Kind("no reply now and then", _nothing, probability=0.5),
    "brown_out": Kind(
        "no reply for `for_s`, then counters as last saved by the meter (each `saved_every_s`)",
        _nothing,
        {"saved_every_s": 60},
        needs_end=True,
    ),
    "echo": Kind("the adapter gives the master's own bytes back", tcp=False, whole_line=True),
    "unplug": Kind(
        "the adapter is pulled: port and link vanish; with `for_s` they come back", whole_line=True
    ),
}
