"""Replies to mantissas in the core, against the meaning of the register types in plain fractions.

The model here is written from the definitions, number by number, and shares nothing with the core.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgeagg import _core
from edgeagg.model import Quality

WHOLE = [f"{family}{8 * n}" for family in ("u", "i", "bcd", "sbcd") for n in range(1, 9)]
BYTES = {
    **{name: int(name.lstrip("uibcds")) // 8 for name in WHOLE},
    "f32": 4,
    "f64": 8,
    "u8hi": 2,
    "u8lo": 2,
    "t5": 4,
    "t6": 4,
    "sm32": 4,
}
MANTISSA_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Part:
    """A number at a place in a reply."""

    at: int
    type: str
    order: str
    factor: Fraction

    def as_tuple(self) -> tuple[int, str, str, tuple[int, int]]:
        return self.at, self.type, self.order, self.factor.as_integer_ratio()


@dataclass(frozen=True, slots=True)
class Point:
    """What the core is told of a point that stands in read 0."""

    part: Part
    addend: int = 0
    plus: Part | None = None
    invalid: tuple[int, ...] = ()
    min: int | None = None
    max: int | None = None


def plan_of(*points: Point, by_ratio: bool = False) -> _core.ScanPlan:
    return _core.ScanPlan(
        1,
        [
            (
                0,
                point.part.as_tuple(),
                point.addend,
                point.plus.as_tuple() if point.plus else None,
                point.invalid,
                point.min,
                point.max,
                by_ratio,
            )
            for point in points
        ],
    )


def content_of(part: Part, reply: bytes) -> bytes:
    """Return the bytes of a number, highest first."""
    data = reply[part.at : part.at + BYTES[part.type]]
    registers = [data[place : place + 2] for place in range(0, len(data), 2)]
    match part.order:
        case "CDAB":
            registers.reverse()
        case "BADC":
            registers = [register[::-1] for register in registers]
        case "DCBA":
            return data[::-1]
    return b"".join(registers)


def unsigned_of(part: Part, reply: bytes) -> int:
    """Return what `invalid` is compared with; of u8hi and u8lo that is their one byte."""
    data = content_of(part, reply)
    return {"u8hi": data[0], "u8lo": data[-1]}.get(part.type, int.from_bytes(data))


def number_of(part: Part, reply: bytes) -> Fraction | None:
    """Return what a register says, before factors; None when it says no number."""
    data = content_of(part, reply)
    number: float | Fraction
    match part.type:
        case "f32":
            (number,) = struct.unpack(">f", data)
        case "f64":
            (number,) = struct.unpack(">d", data)
        case "u8hi":
            number = data[0]
        case "u8lo":
            number = data[1]
        case "t5" | "t6":
            mantissa = int.from_bytes(data[1:], signed=part.type == "t6")
            number = mantissa * Fraction(10) ** int.from_bytes(data[:1], signed=True)
        case "sm32":
            number = (-1) ** (data[0] >> 7) * (int.from_bytes(data) % 2**31)
        case bcd if "bcd" in bcd:
            number = decimal_of(data, signed=bcd[0] == "s")
        case whole:
            number = int.from_bytes(data, signed=whole[0] == "i")
    return Fraction(number) if math.isfinite(number) else None


def decimal_of(data: bytes, *, signed: bool) -> float:
    """Return the number of binary-coded digits, not-a-number where one is no digit."""
    sign = -1 if signed and data[0] & 0x80 else 1
    digits = (bytes([data[0] & 0x7F, *data[1:]]) if signed else data).hex()
    return sign * int(digits) if digits.isdecimal() else math.nan


def mantissa_of(point: Point, reply: bytes) -> int | None:
    """Return the mantissa as the profile defines it, None for what is implausible."""
    raw = number_of(point.part, reply)
    if raw is None or unsigned_of(point.part, reply) in point.invalid:
        return None
    value = (raw + point.addend) * point.part.factor
    if point.plus is not None:
        more = number_of(point.plus, reply)
        if more is None:
            return None
        value += more * point.plus.factor
    mantissa = round(value)
    low = -MANTISSA_MAX if point.min is None else point.min
    high = MANTISSA_MAX if point.max is None else point.max
    within = abs(mantissa) <= MANTISSA_MAX and low <= mantissa <= high
    return mantissa if within else None


def factors() -> st.SearchStrategy[Fraction]:
    usual = st.sampled_from([Fraction(1), Fraction(10), Fraction(1, 10), Fraction(1, 800)])
    any_ratio = st.builds(
        Fraction,
        st.integers(-(2**126), 2**126).filter(bool),
        st.one_of(st.integers(1, 1000), st.integers(1, 2**126)),
    )
    return st.one_of(usual, usual, any_ratio)


@st.composite
def parts(draw: st.DrawFn) -> Part:
    name = draw(st.sampled_from(sorted(BYTES)))
    orders = ["ABCD", "DCBA"] if BYTES[name] % 2 else ["ABCD", "CDAB", "BADC", "DCBA"]
    return Part(draw(st.integers(0, 6)), name, draw(st.sampled_from(orders)), draw(factors()))


def contents(part: Part) -> st.SearchStrategy[bytes]:
    """Make bytes for the number that are likely to say something."""
    count = BYTES[part.type]
    kinds = [
        st.binary(min_size=count, max_size=count),
        st.sampled_from([bytes(count), b"\xff" * count, b"\x80" + bytes(count - 1)]),
        st.lists(st.integers(0, 99), min_size=count, max_size=count).map(
            lambda pairs: bytes(tens // 10 << 4 | tens % 10 for tens in pairs)
        ),
    ]
    if part.type in {"f32", "f64"}:
        code = {"f32": ">f", "f64": ">d"}[part.type]
        kinds.append(st.floats(width=32).map(lambda value: struct.pack(code, value)))
        kinds.append(st.integers(-4000, 4000).map(lambda n: struct.pack(code, n / 16)))
    return st.one_of(kinds)


@st.composite
def points_and_replies(draw: st.DrawFn) -> tuple[Point, bytes]:
    part, plus = draw(parts()), draw(st.none() | parts())
    reply = bytearray(draw(st.binary(min_size=14, max_size=14)))
    for some in (plus, part):
        if some is not None:
            data = draw(contents(some))
            # orders are involutions, so what puts bytes in order puts them on the wire too
            placed = content_of(Part(0, some.type, some.order, some.factor), data)
            reply[some.at : some.at + len(placed)] = placed
    content = unsigned_of(part, bytes(reply))
    point = Point(
        part,
        draw(st.just(0) | st.integers(-(2**63), 2**63 - 1)),
        plus,
        draw(st.sampled_from([(), (), (), (content,), (content ^ 1, 0)])),
        draw(st.none() | st.integers(-(2**63), 2**63 - 1)),
        draw(st.none() | st.integers(-(2**63), 2**63 - 1)),
    )
    return point, bytes(reply)


def f64(value: float, factor: Fraction, plus: Fraction | None = None) -> tuple[Point, bytes]:
    second = None if plus is None else Part(0, "f64", "ABCD", plus)
    return Point(Part(0, "f64", "ABCD", factor), 0, second), struct.pack(">d", value)


@settings(max_examples=250, deadline=None)
@given(points_and_replies())
@example(f64(1.7976931348623157e308, Fraction(1, 2**126)))
@example(f64(1.7976931348623157e308, Fraction(1), Fraction(-1)))
@example(f64(5e-324, Fraction(2**126, 3)))
@example(f64(-0.0, Fraction(1)))
@example(f64(0.5, Fraction(1)))
@example(f64(-1.5, Fraction(1)))
@example(f64(9.223372036854775e18, Fraction(1)))
@example(f64(9.223372036854776e18, Fraction(1)))
@example(f64(-9.223372036854776e18, Fraction(1)))
def test_every_type_order_and_factor_decodes_as_in_plain_fractions(
    case: tuple[Point, bytes],
) -> None:
    point, reply = case
    expected = mantissa_of(point, reply)
    quality = Quality.IMPLAUSIBLE if expected is None else Quality.GOOD
    assert plan_of(point).decode([reply]) == ([expected], bytes([quality]))


@pytest.mark.parametrize(
    ("code", "order", "wire", "value"),
    [
        ("u16", "ABCD", "fffe", 65534),
        ("u16", "DCBA", "0102", 0x0201),
        ("u16", "CDAB", "0102", 0x0102),
        ("i16", "BADC", "feff", -2),
        ("i8", "ABCD", "80", -128),
        ("u24", "DCBA", "010203", 0x030201),
        ("u32", "ABCD", "01020304", 0x01020304),
        ("u32", "CDAB", "03040102", 0x01020304),
        ("u32", "BADC", "02010403", 0x01020304),
        ("u32", "DCBA", "04030201", 0x01020304),
        ("i64", "CDAB", "fffeffffffffffff", -2),
        ("i64", "ABCD", "8000000000000000", None),  # its mantissa would have no opposite
        ("i64", "ABCD", "8000000000000001", -MANTISSA_MAX),
        ("u64", "ABCD", "7fffffffffffffff", MANTISSA_MAX),
        ("u64", "ABCD", "8000000000000000", None),
        ("bcd16", "ABCD", "9876", 9876),
        ("bcd32", "DCBA", "78563412", 12345678),
        ("bcd48", "CDAB", "056703450012", 1203450567),
        ("bcd16", "ABCD", "00a0", None),
        ("sbcd24", "DCBA", "452381", -12345),
        ("sbcd24", "DCBA", "452301", 12345),
        ("sbcd16", "ABCD", "ffff", None),
        ("u8hi", "ABCD", "0102", 1),
        ("u8lo", "ABCD", "0102", 2),
        ("u8lo", "DCBA", "0102", 1),
        ("sm32", "ABCD", "80000005", -5),
        ("sm32", "ABCD", "80000000", 0),
        ("t5", "ABCD", "02ff0000", 0xFF0000 * 100),
        ("t6", "ABCD", "02ffffff", -100),
        ("t6", "ABCD", "ff000019", 2),  # 2.5, to even
        ("f32", "ABCD", "40600000", 4),  # 3.5, to even
        ("f32", "CDAB", "0000c020", -2),  # -2.5, to even
        ("f32", "ABCD", "7fc00000", None),
        ("f32", "ABCD", "ff800000", None),
        ("f64", "ABCD", "40c81cd6e631f8a1", 12346),
        ("f64", "ABCD", "7ff0000000000000", None),
    ],
)
def test_every_type_says_what_pencil_and_paper_say(
    code: str, order: str, wire: str, value: int | None
) -> None:
    point = Point(Part(0, code, order, Fraction(1)))
    assert plan_of(point).decode([bytes.fromhex(wire)])[0] == [value]


@settings(max_examples=300, deadline=None)
@given(parts(), st.binary(max_size=20))
def test_a_reply_of_any_length_is_decoded_or_refused(part: Part, reply: bytes) -> None:
    plan = plan_of(Point(part))
    if len(reply) < part.at + BYTES[part.type]:
        with pytest.raises(ValueError, match=f"read 0 has {len(reply)} bytes"):
            plan.decode([reply])
    else:
        assert plan.decode([reply])[0] == [mantissa_of(Point(part), reply)]


@settings(max_examples=60, deadline=None)
@given(st.lists(points_and_replies(), min_size=1, max_size=6), st.integers(-(2**40), 2**40))
def test_a_scan_gives_the_record_and_the_state_that_a_row_gives(
    cases: list[tuple[Point, bytes]], delay_ms: int
) -> None:
    points = [point for point, _ in cases]
    reply = cases[0][1]
    values = [mantissa_of(point, reply) for point in points]
    qualities = bytes(Quality.IMPLAUSIBLE if value is None else 0 for value in values)
    shape = [(1_000, [index % 2 == 0 for index in range(len(points))])]
    by_scan, by_row = (_core.Aggregator(shape, [1_000]) for _ in range(2))
    record = by_row.push_row(0, 5_000, 5_000 + delay_ms, values, qualities)
    plan = plan_of(*points)
    assert by_scan.push_scan(0, 5_000, 5_000 + delay_ms, plan, [reply]) == (record, qualities)
    assert by_scan.cut(2**41) == by_row.cut(2**41)


def words(at: int, *, plus: Part | None = None) -> Point:
    return Point(Part(at, "u16", "ABCD", Fraction(1)), plus=plus)


def test_of_a_register_of_two_halves_the_half_is_compared_with_what_is_invalid() -> None:
    halves = [Point(Part(0, code, "ABCD", Fraction(1)), invalid=(2,)) for code in ("u8hi", "u8lo")]
    assert plan_of(*halves).decode([b"\1\2"])[0] == [1, None]
    assert plan_of(*halves).decode([b"\2\1"])[0] == [None, 1]


def test_a_failed_read_gives_its_reason_to_its_points_only() -> None:
    part = Part(0, "u16", "ABCD", Fraction(1)).as_tuple()
    reads = [(read, part, 0, None, (), None, None, read == 2) for read in (0, 1, 2, 1)]
    plan = _core.ScanPlan(3, reads)
    replies: Sequence[bytes | int] = [b"\0\7", Quality.BAD_FRAME, b"\0\x09"]
    expected = [0, Quality.BAD_FRAME, 0, Quality.BAD_FRAME]
    assert plan.decode(replies) == ([7, None, 9, None], bytes(expected))


def test_a_point_without_its_ratio_has_the_reason_of_the_ratio_behind_that_of_its_read() -> None:
    part = Part(0, "u16", "ABCD", Fraction(1)).as_tuple()
    reads = [(read, part, 0, None, (), None, None, by) for read, by in ((0, True), (1, True))]
    plan = _core.ScanPlan(2, [*reads, (0, part, 0, None, (), None, None, False)])
    got = plan.decode([b"\0\7", Quality.NO_REPLY], ratios=Quality.REFUSED)
    assert got == ([None, None, 7], bytes([Quality.REFUSED, Quality.NO_REPLY, Quality.GOOD]))


def test_ratios_read_anew_change_what_follows() -> None:
    plus = Part(2, "u16", "ABCD", Fraction(1000))
    plan = plan_of(words(0), words(0, plus=plus), by_ratio=True)
    reply = b"\0\3\0\2"
    assert plan.decode([reply])[0] == [3, 2003]
    plan.set_factors([((20, 1), None), ((1, 2), (40, 1))])
    assert plan.decode([reply])[0] == [60, 82]


@pytest.mark.parametrize(
    ("factors_given", "message"),
    [
        ([((1, 1), None)], "every part of every point"),
        ([((1, 1), None), ((1, 1), None)], "every part of every point"),
        ([((1, 1), (1, 1)), ((1, 1), (1, 1))], "every part of every point"),
        ([((0, 1), None), ((1, 1), (1, 1))], "not 0"),
        ([((1, 0), None), ((1, 1), (1, 1))], "denominator is positive"),
        ([((1, -1), None), ((1, 1), (1, 1))], "denominator is positive"),
        ([((2**127, 1), None), ((1, 1), (1, 1))], r"below 2\^127"),
        ([((2**900, 1), None), ((1, 1), (1, 1))], r"below 2\^127"),
        ([((-(2**127), 1), None), ((1, 1), (1, 1))], "factor"),
    ],
)
def test_factors_that_do_not_fit_change_nothing(
    factors_given: list[tuple[tuple[int, int], tuple[int, int] | None]], message: str
) -> None:
    plan = plan_of(words(0), words(0, plus=Part(2, "u16", "ABCD", Fraction(1000))))
    with pytest.raises(ValueError, match=message):
        plan.set_factors(factors_given)
    assert plan.decode([b"\0\3\0\2"])[0] == [3, 2003]


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ((1, (0, "u16", "ABCD", (1, 1))), "stands in no read"),
        ((0, (0, "u128", "ABCD", (1, 1))), "no such register type"),
        ((0, (0, "8", "ABCD", (1, 1))), "no such register type"),
        ((0, (0, "", "ABCD", (1, 1))), "no such register type"),
        ((0, (0, "u16", "ACBD", (1, 1))), "no such byte order"),
        ((0, (0, "bcd24", "CDAB", (1, 1))), "odd number of bytes"),
        ((0, (0, "u16", "ABCD", (0, 1))), "not 0"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(
    point: tuple[int, tuple[int, str, str, tuple[int, int]]], message: str
) -> None:
    read, part = point
    with pytest.raises(ValueError, match=message):
        _core.ScanPlan(1, [(read, part, 0, None, (), None, None, False)])


@pytest.mark.parametrize("count", [0, 513])
def test_a_plan_has_as_many_points_as_a_group_may_have(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 512 points"):
        plan_of(*[words(0)] * count)


@pytest.mark.parametrize(
    ("replies", "message"),
    [
        ([b"\0\0", b"\0"], "read 1 has 1 bytes, the plan needs 2"),
        ([b"\0\0", b""], "read 1 has 0 bytes, the plan needs 2"),
        ([b"\0\0"], "one reply per read"),
        ([b"\0\0", b"\0\0", b"\0\0"], "one reply per read"),
        ([b"\0\0", 0], "good is no reason"),
    ],
)
def test_replies_that_do_not_fit_leave_the_aggregator_as_it_was(
    replies: list[bytes | int], message: str
) -> None:
    part = (0, "u16", "ABCD", (1, 1))
    points = [(read, part, 0, None, (), None, None, False) for read in (0, 1)]
    plan, aggregator = _core.ScanPlan(2, points), _core.Aggregator([(1_000, [False] * 2)], [])
    with pytest.raises(ValueError, match=message):
        aggregator.push_scan(0, 1_000, 1_000, plan, replies)
    assert aggregator.last_due_ms(0) is None
    assert aggregator.pending_cells == 0


def test_a_plan_of_another_group_is_refused() -> None:
    aggregator = _core.Aggregator([(1_000, [False] * 2)], [])
    with pytest.raises(ValueError, match="every point of its group"):
        aggregator.push_scan(0, 1_000, 1_000, plan_of(words(0)), [b"\0\0"])
    assert aggregator.last_due_ms(0) is None


def test_a_place_beyond_any_reply_is_refused_when_it_is_read() -> None:
    far = plan_of(words(2**64 - 1))
    with pytest.raises(ValueError, match="read 0 has 300 bytes"):
        far.decode([bytes(300)])
