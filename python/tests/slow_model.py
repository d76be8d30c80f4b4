"""The arithmetic of codec 2, after `docs/batch-format.md`: bits, mixing, predictions.

Part of the slow decoder; it must import nothing of edgeagg.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


def wrap(value: int) -> int:
    """Keep the low 64 bits, signed."""
    return (value + 2**63) % 2**64 - 2**63


def _tails() -> list[float]:
    tails, power = [], 1.0
    for _ in range(129):
        tails.append(power / (1.0 + power))
        power *= 0.8824969025845955
    return tails


_TAILS = _tails()
# fmt: off
_ANCHORS = [
    1, 2, 3, 6, 10, 16, 27, 45, 73, 120, 194, 310, 488, 747, 1101, 1546, 2047, 2549, 2994, 3348,
    3607, 3785, 3901, 3975, 4022, 4050, 4068, 4079, 4085, 4089, 4092, 4093, 4094,
]
# fmt: on


def tail(z: float) -> float:
    """Return the share of a logistic distribution above z."""
    steps = abs(z) * 8.0
    share = _TAILS[128]
    if steps < 128.0:
        at = int(steps)
        share = _TAILS[at] + (_TAILS[at + 1] - _TAILS[at]) * (steps - float(at))
    return 1.0 - share if z < 0.0 else share


def squash(evidence: int) -> int:
    """Turn evidence into a probability of 4096."""
    at, part = (evidence >> 7) + 16, evidence & 127
    return (_ANCHORS[at] * (128 - part) + _ANCHORS[at + 1] * part + 64) >> 7


def _stretches() -> list[int]:
    table: list[int] = []
    for evidence in range(-2047, 2048):
        table += [evidence] * (squash(evidence) + 1 - len(table))
    return table + [2047] * (4096 - len(table))


_STRETCH = _stretches()


def clamp(value: int, low: int, high: int) -> int:
    """Keep within both limits."""
    return min(max(value, low), high)


class Slot:
    """An adaptive probability."""

    __slots__ = ("one", "seen")

    def __init__(self, one: int = 32768, seen: int = 0) -> None:
        self.one, self.seen = one, seen

    def learn(self, bit: int) -> None:
        distance = (65535 if bit else 0) - self.one
        step = distance * (131072 // (2 * self.seen + 3)) >> 16
        self.one = clamp(self.one + step, 32, 65503)
        self.seen = min(self.seen + 1, 250)


class Bits:
    """The arithmetic decoder."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 4
        self.low, self.high = 0, 2**32 - 1
        self.value = int.from_bytes(data[:4].ljust(4, b"\0"), "big")

    def bit(self, one: int) -> int:
        middle = self.low + ((self.high - self.low) * one >> 16)
        bit = int(self.value <= middle)
        if bit:
            self.high = middle
        else:
            self.low = middle + 1
        while self.low >> 24 == self.high >> 24:
            byte = self.data[self.at] if self.at < len(self.data) else 0
            self.at += 1
            self.low = self.low << 8 & 0xFFFFFFFF
            self.high = self.high << 8 & 0xFFFFFFFF | 255
            self.value = self.value << 8 & 0xFFFFFFFF | byte
        return bit

    def raw(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = value << 1 | self.bit(32768)
        return value


# Codec 2: the model ----------------------------------------------------------------------------

HASHED, SHAPES, INPUTS, DIRECTS, SETS, CLASSES, FLAGS = 7, 5, 14, 64, 19, 25, 192
KNOWNS = 7
"""Sets of weights by how well the hashed slots know a decision."""
DECISIONS = 327_680
"""Most that a payload and its keyframe may take."""

Shape = tuple[float, float]
"""Offset and sharpness."""
NOTHING: Shape = (0.0, 0.0)


@dataclass
class Context:
    """What is known before an integer."""

    hashes: list[int]
    direct: int
    set: int
    shapes: list[Shape]


class Weights:
    """The network's weights for a set and a class."""

    def __init__(self, of: Sequence[int]) -> None:
        self.of, self.uses = [4 * weight for weight in of], 200

    def sum(self, inputs: list[int]) -> int:
        total = sum(a * b for a, b in zip(inputs, self.of, strict=True)) >> 16
        return clamp(total, -2047, 2047)

    def learn(self, inputs: list[int], error: int) -> None:
        rate = 24 + 5120 // (32 + min(self.uses, 2**20))
        self.uses += 1
        for at, value in enumerate(inputs):
            step = (value * error * rate + 2**17) >> 18
            self.of[at] = clamp(self.of[at] + step, -(2**22), 2**22)


def evidence(some: float, every: float) -> int:
    """Return the weight of evidence of a share of a share."""
    share = (some + 1e-7) / (every + 2e-7) * 4096.0
    return _STRETCH[clamp(int(share), 1, 4095)]


class Model:
    """The adaptive statistics of a payload."""

    def __init__(self, bits: Bits, prior: bytes) -> None:
        self.bits = bits
        count = DIRECTS * CLASSES, (SETS + DIRECTS + KNOWNS) * CLASSES * INPUTS, FLAGS
        numbers = struct.unpack(f"<{count[0]}H{count[1]}h{count[2]}H", prior)
        weights = numbers[count[0] : count[0] + count[1]]
        self.directs = [Slot(one, 30) for one in numbers[: count[0]]]
        self.weights = [Weights(weights[at : at + INPUTS]) for at in range(0, count[1], INPUTS)]
        self.flags = [Slot(one, 4) for one in numbers[-FLAGS:]]
        self.slots: list[dict[int, Slot]] = [{} for _ in range(HASHED)]
        self.decisions = 0

    def flag(self, at: int) -> bool:
        slot = self.flags[at]
        bit = self.bits.bit(slot.one)
        slot.learn(bit)
        return bool(bit)

    def integer(self, context: Context) -> int:
        parts = [
            [offset, sharp, tail((0.5 - offset) * sharp), tail((0.5 + offset) * sharp)]
            for offset, sharp in context.shapes
        ]
        if self.bit(context, 0, 0, parts, lambda low, high: (1.0 - low - high, 1.0)):
            return 0
        negative = self.bit(context, 1, 1, parts, lambda low, high: (high, low + high))
        for part in parts:
            if negative:
                part[0], part[2] = -part[0], part[3]
            part[3] = 0.0
        length = self.length(context, parts)
        size = self.digits(context, parts, length)
        return wrap(-size) if negative else wrap(size)

    def length(self, context: Context, parts: list[list[float]]) -> int:
        for at in range(20):
            limit = float(2 << at) - 0.5
            beyond = [tail((limit - part[0]) * part[1]) for part in parts]
            shares = [(share, part[2]) for share, part in zip(beyond, parts, strict=True)]
            more = self.bit_of(context, 2 + at, 2 + at, parts, shares)
            for part, share in zip(parts, beyond, strict=True):
                part[2 if more else 3] = share
            if not more:
                return at
        number = 1
        while number < 64:
            number = 2 * number + self.flag(64 + number)
        return number - 64

    def digits(self, context: Context, parts: list[list[float]], length: int) -> int:
        modelled = min(length, 3) if length < 20 else 0
        head = 1
        for depth in range(modelled):
            limit = float((2 * head + 1) << (length - 1 - depth)) - 0.5
            beyond = [tail((limit - part[0]) * part[1]) for part in parts]
            shares = [
                (share - part[3], part[2] - part[3])
                for share, part in zip(beyond, parts, strict=True)
            ]
            one = self.bit_of(context, 22 + (length << 3 | head), 22 + depth, parts, shares)
            for part, share in zip(parts, beyond, strict=True):
                part[2 if one else 3] = share
            head = head << 1 | one
        rest = length - modelled
        return head << rest | self.bits.raw(rest)

    def bit(
        self,
        context: Context,
        node: int,
        kind: int,
        parts: list[list[float]],
        share: Callable[[float, float], tuple[float, float]],
    ) -> int:
        return self.bit_of(context, node, kind, parts, [share(part[2], part[3]) for part in parts])

    def bit_of(
        self,
        context: Context,
        node: int,
        kind: int,
        parts: list[list[float]],
        shares: list[tuple[float, float]],
    ) -> int:
        self.decisions += 1
        if self.decisions > DECISIONS:
            raise ValueError("too many decisions")
        direct = self.directs[context.direct * CLASSES + kind]
        salt = node * 0x9E3779B1
        slots: list[Slot] = []
        for table, context_hash in zip(self.slots, context.hashes, strict=True):
            place = ((context_hash ^ salt) * 0x85EBCA6B & 0xFFFFFFFF) >> 19
            slot = table.setdefault(place, Slot())
            if slot.seen == 0:
                slot.one = direct.one
            slots.append(slot)
        inputs = [
            _STRETCH[slot.one >> 4] * (358 * (10 * slot.seen + 3) // (10 * slot.seen + 23)) >> 8
            for slot in slots
        ]
        inputs.append(_STRETCH[direct.one >> 4])
        for part, (some, every) in zip(parts, shares, strict=True):
            inputs.append(evidence(some, every) if part[1] != 0.0 else 0)
        inputs.append(256)
        ripe = sum(slot.seen >= 3 for slot in slots)
        known = sum(slot.seen > 0 for slot in slots) // 2
        if ripe:
            known = 4 + (ripe > 2) + (ripe > 5)
        networks = [
            self.weights[number * CLASSES + kind]
            for number in (context.set, SETS + context.direct, SETS + DIRECTS + known)
        ]
        total = sum(weights.sum(inputs) for weights in networks)
        one = squash(total // 3 if total >= 0 else -(-total // 3))
        bit = self.bits.bit(one << 4 | 8)
        for weights in networks:
            weights.learn(inputs, (bit << 12) - one)
        for slot in [*slots, direct]:
            slot.learn(bit)
        return bit


# Codec 2: predictions --------------------------------------------------------------------------

WAYS, MANY, FEW, PARTNER = 7, 4, 5, 6


class Rls:
    """Recursive least squares, every sum from left to right."""

    def __init__(self, own: int, features: int) -> None:
        self.own, self.features = own, features
        self.begin()

    def begin(self) -> None:
        self.weights = [0.0] * self.features
        self.loosen()

    def loosen(self) -> None:
        places = range(self.features)
        first = [0.01 if at < self.own else 0.1 for at in places]
        self.spread = [[first[a] if a == b else 0.0 for b in places] for a in places]

    def learn(self, features: list[float], miss: float) -> None:
        gain = [0.0] * self.features
        for row, value in zip(self.spread, features, strict=True):
            gain = [have + cell * value for have, cell in zip(gain, row, strict=True)]
        energy = 0.999 + dot(gain, features)
        scale = 1.0 / energy if energy != 0.0 else math.copysign(math.inf, energy)
        trace, is_sound = 0.0, True
        for at, share_of in enumerate(gain):
            share = share_of * scale
            self.weights[at] += share * miss
            is_sound &= abs(self.weights[at]) < 1e6
            row = self.spread[at]
            for other in range(self.features):
                row[other] = (row[other] - share * gain[other]) * (1.0 / 0.999)
            trace += row[at]
        if not (is_sound and trace < 1e6):
            self.begin()


def bounded(step: float, limit: float) -> float:
    """Return 0 for a step that is too large to be one."""
    return step if abs(step) < limit else 0.0


class Beside:
    """What earlier cells of the row say: by many, by few, by the one that tells most."""

    def __init__(self) -> None:
        self.many, self.few = Rls(4, 12), Rls(2, 5)
        self.misses = (0.0, 0.0)
        self.partners: list[tuple[float, float]] = []
        self.inputs: tuple[list[float], list[float]] = ([], [])
        self.predicted: list[float] = []

    def predict(self, steps: tuple[float, float], level: float, row: list[float]) -> list[float]:
        near = row[::-1]
        many = [*steps, level, self.misses[0], *near[:8]]
        few = [level, self.misses[1], *near[:3]]
        many += [0.0] * (12 - len(many))
        few += [0.0] * (5 - len(few))
        self.inputs = many, few
        learned = bounded(dot(self.many.weights, many), 1e18)
        most, rest = 0.0, 0.0
        for (product, square), step in zip(self.partners, near, strict=False):
            slope = product / (square + 5.0)
            if product * slope > most:
                most, rest = product * slope, slope * step
        little = bounded(dot(self.few.weights, few), 1e18)
        self.predicted = [learned, little, learned + bounded(rest, 4e15)]
        return self.predicted

    def learn(self, step: float, row: list[float], *, is_fresh: bool) -> None:
        self.misses = step - self.predicted[0], step - self.predicted[1]
        if is_fresh:
            return
        near = row[::-1][:40]
        self.partners += [(0.0, 0.0)] * (len(near) - len(self.partners))
        for at, beside in enumerate(near):
            product, square = self.partners[at]
            product = product * 0.98 + beside * self.misses[0]
            self.partners[at] = product, square * 0.98 + beside * beside
        self.many.learn(self.inputs[0], self.misses[0])
        self.few.learn(self.inputs[1], self.misses[1])


def dot(left: list[float], right: list[float]) -> float:
    """Add up products from left to right."""
    total = 0.0
    for a, b in zip(left, right, strict=True):
        total += a * b
    return total


def rounded(value: float) -> int:
    """Round to nearest, halves away from zero."""
    whole = math.floor(abs(value))
    whole += abs(value) - whole >= 0.5
    return -whole if value < 0.0 else whole


def shape(offset: float, miss: float) -> Shape:
    """Return the spread whose mean miss was `miss`."""
    return offset, 1.7 / (miss + 0.15)


def scale_of(miss: float) -> int:
    """Return the scale of a mean miss, 0 to 15."""
    scale, limit = 0, 0.06
    while scale < 15 and miss > limit:
        limit *= 2.0
        scale += 1
    return scale


def digits(residual: int) -> int:
    """Return up to 7 digits of a residual, and its sign."""
    return min(abs(residual).bit_length(), 7) << 1 | (residual < 0)


def spread(context: int) -> int:
    """Spread a context over the hash."""
    return ((context & 0xFFFFFFFF) * 0x2545F491 + 0x12345678) & 0xFFFFFFFF


def cost(miss: float) -> float:
    """Return about the digits that a miss costs."""
    if miss < 1.0:
        return miss
    part, exponent = math.frexp(miss)
    return float(exponent) + part


@dataclass
class Row:
    """What is known of a row of readings so far; `gap` holds for the table."""

    gap: float
    steps: list[float] = field(default_factory=list)
    zeros: int = 0
    residual: int = 0


class Series:
    """A column that runs on from row to row."""

    def __init__(self, *, has_rls: bool) -> None:
        self.beside = Beside() if has_rls else None
        self.again()
        self.step = self.step_before = 0.0
        self.mean_step, self.seen, self.magnitude = 0.0, 0, 4.0
        self.costs, self.misses = [0.0, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3], [4.0] * WAYS
        self.still = self.still_before = 0
        self.is_late = self.is_fresh = False

    def again(self) -> None:
        self.last, self.level, self.residuals = 0, 0.0, (0, 0)
        self.is_fresh = True
        self.forget_misses()

    def go_on(self) -> None:
        self.last, self.residuals = 0, (0, 0)
        self.is_fresh = self.is_late = True
        self.forget_misses()

    def forget_misses(self) -> None:
        if self.beside:
            self.beside.misses = 0.0, 0.0

    def keep_still(self) -> None:
        self.misses, self.magnitude = [0.1] * WAYS, 0.1

    def decode(self, model: Model, column: int, row: Row) -> int:
        gap = row.gap if self.is_late else 1.0
        steps = [0.0, self.step * gap, self.mean_step * gap, self.level]
        if self.beside:
            own = (0.0, 0.0) if self.is_late else (self.step, self.step_before)
            steps += self.beside.predict(own, self.level, row.steps)
        ways = len(steps)
        steps += [0.0] * (WAYS - ways)
        way = min(range(ways), key=lambda at: self.costs[at])
        misses, magnitude = self.misses, self.magnitude
        if self.is_late:
            root = math.sqrt(gap)
            growths = [root, root, root, 1.0] + [math.sqrt(root)] * 3
            misses = [miss * growth for miss, growth in zip(misses, growths, strict=True)]
            if way not in (1, 2):
                way = min([0, *range(3, ways)], key=lambda at: misses[at])
            magnitude = misses[way]
        step = steps[way] if abs(steps[way]) < 4e15 else 0.0
        whole = rounded(step)
        shapes = self.shapes(steps, misses, way, ways, whole)
        context = self.context(shapes, scale_of(magnitude), way, whole, column, row)
        centre = wrap(self.last + whole)
        residual = model.integer(context)
        value = wrap(centre + residual)
        moved = float(wrap(value - self.last))
        if self.is_late:
            if column == 0:
                row.gap = min(max(moved, 1.0), 65536.0)
            self.last = value
        else:
            self.learn(value, residual, steps, row.steps)
        self.is_late = self.is_fresh = False
        row.steps.append(moved)
        row.zeros = (row.zeros << 1 | (residual == 0)) & 15
        row.residual = residual
        return value

    def shapes(
        self, steps: list[float], misses: list[float], way: int, ways: int, whole: int
    ) -> list[Shape]:
        step = steps[way] if abs(steps[way]) < 4e15 else 0.0
        shapes = [shape(step - float(whole), misses[way])]
        for other in (MANY, PARTNER, FEW, 0, 3):
            if other != way and other < ways and len(shapes) < SHAPES:
                offset = steps[other] - float(whole)
                known = shape(offset, misses[other])
                shapes.append(known if abs(offset) < 4e15 else NOTHING)
        return shapes + [NOTHING] * (SHAPES - len(shapes))

    def context(
        self, shapes: list[Shape], scale: int, way: int, whole: int, column: int, row: Row
    ) -> Context:
        last, before = self.residuals
        fifth = min(int((shapes[0][0] + 0.5) * 5.0), 4)
        hashes = [
            column << 8 | scale,
            column << 16 | digits(last) << 8 | digits(before),
            row.zeros << 8 | (last == 0 and before == 0) << 5 | scale,
            3 << 29 | digits(row.residual) << 4 | scale,
            (fifth << 8 | scale) << 4 | way,
            1 << 30 | column << 16 | min(self.still, 255) << 8 | min(self.still_before, 255),
            2 << 30 | column << 20 | (self.last + whole & 0xFFFF) << 4 | min(self.still, 15),
        ]
        age = (self.seen > 2) + (self.seen > 7) + (self.seen > 24)
        direct, chosen = scale, age + 4 * max(way - 3, 0)
        if self.is_late:
            direct, chosen = 44 + scale, 18
        return Context([spread(one) for one in hashes], direct, chosen, shapes)

    def learn(self, value: int, residual: int, steps: list[float], beside: list[float]) -> None:
        step = float(wrap(value - self.last))
        rate = max(1.0 / (float(self.seen) + 1.5), 0.12)
        cost_rate = max(1.0 / (float(self.seen) + 10.0), 0.05)
        for way, predicted in enumerate(steps):
            miss = abs(step - predicted)
            self.costs[way] += (cost(miss) - self.costs[way]) * cost_rate
            self.misses[way] += (miss - self.misses[way]) * rate
        if self.beside:
            if self.seen == 1 and abs(step - self.step) < abs(step):
                self.beside.many.loosen()
                self.beside.few.loosen()
            self.beside.learn(step, beside, is_fresh=self.is_fresh)
        self.mean_step += (step - self.mean_step) * 0.1
        self.level = (self.level - step) * 0.85
        self.magnitude += (float(min(abs(residual), 1 << 40)) - self.magnitude) * rate
        self.residuals = residual, self.residuals[0]
        self.step_before, self.step, self.last = self.step, step, value
        self.seen += 1
        if step == 0.0:
            self.still += 1
        else:
            self.still_before, self.still = self.still, 0
