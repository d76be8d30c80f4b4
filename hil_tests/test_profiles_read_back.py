"""Every shipped profile against a meter made from the same file: it reads back exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import partial
from random import Random

import pytest

from edgeagg.model import Kind
from edgeagg_agent.bus.timing import Timing
from edgeagg_agent.plan import Block, plan_blocks
from edgeagg_agent.profile import (
    SHIPPED,
    Point,
    Profile,
    Ratio,
    decode,
    decode_item,
    decode_ratio,
    item_wraps_at,
    load,
    names,
    wraps_at,
)
from hil_tests.profile_encoder import EDGES, Played, play_items, play_registers, read_profile

PROFILES = names(())
RANDOM_ROUNDS = 5
TURNAROUND_US = 20_000


def rounds(name: str) -> list[tuple[str, Random]]:
    """Every edge once and random values several times, each from a seed that a failure names."""
    many = [*EDGES, *["random"] * (RANDOM_ROUNDS - 1)]
    return [(edge, Random(f"{name} {turn}")) for turn, edge in enumerate(many)]


class IllegalReadError(Exception):
    """The meter would refuse this read."""


def read_block(profile: Profile, words: Mapping[tuple[int, int], int], block: Block) -> bytes:
    """Answer like the meter: no more registers than it allows, nothing that it does not have."""
    limits = profile.limits
    places = [(block.function, block.start + n) for n in range(block.count)]
    proven = {
        (function, start + n) for function, start, count in limits.proven for n in range(count)
    }
    illegal = {
        (function, start + n) for function, start, count in limits.illegal for n in range(count)
    }
    if block.count > limits.registers_max or illegal & set(places):
        raise IllegalReadError(f"{profile.name}: {block}")
    if limits.holes != "readable" and not set(places) <= words.keys() | proven:
        raise IllegalReadError(f"{profile.name}: {block} crosses a hole")
    return b"".join(words.get(place, 0xDEAD).to_bytes(2, "big") for place in places)


def read_values(
    profile: Profile, played: Played, values: Sequence[Point | Ratio]
) -> dict[str, bytes]:
    """Read values by the agent's own plan; return the bytes of each by name."""
    wanted = [(value.function, value.register, value.count) for value in values]
    blocks = plan_blocks(wanted, profile.limits, Timing.of(9600, "8N1"), TURNAROUND_US)
    replies = {block: read_block(profile, played.words, block) for block in blocks}
    found = {}
    for value in values:
        for block, reply in replies.items():
            at = 2 * (value.register - block.start)
            end = at + 2 * value.count
            if block.function == value.function and at >= 0 and end <= len(reply):
                found[value.name] = reply[at:end]
    return found


@pytest.mark.parametrize("name", [name for name in PROFILES if load(name, ()).points])
def test_a_modbus_meter_made_from_a_profile_reads_back_exactly(name: str) -> None:
    profile, tables = load(name, ()), read_profile(SHIPPED / f"{name}.toml")
    for edge, rng in rounds(name):
        played = play_registers(tables, rng, edge)
        ratio_bytes = read_values(profile, played, profile.ratios)
        ratios = {
            ratio.name: decode_ratio(ratio, ratio_bytes[ratio.name]) for ratio in profile.ratios
        }
        point_bytes = read_values(profile, played, profile.points)
        found = {
            point.name: decode(point, point_bytes[point.name], ratios)[0]
            for point in profile.points
        }
        assert found == played.mantissas, edge


@pytest.mark.parametrize("name", [name for name in PROFILES if load(name, ()).items])
def test_a_meter_of_items_made_from_a_profile_reads_back_exactly(name: str) -> None:
    profile, tables = load(name, ()), read_profile(SHIPPED / f"{name}.toml")
    lengths = {layout.reply_bytes for item in profile.items for layout in item.layouts}
    for edge, rng in rounds(name):
        for length in lengths:
            played = play_items(tables, rng, edge, reply_bytes=length)
            found = {
                item.name: decode_item(item, played.payloads[item.item])[0]
                for item in profile.items
            }
            assert found == played.mantissas, (edge, length)
            in_blocks = {
                item.name: decode_item(item, played.payloads[item.block], is_block=True)[0]
                for item in profile.items
                if item.block is not None
            }
            assert in_blocks == {key: found[key] for key in in_blocks}, (edge, length)


def test_both_tests_together_read_every_profile() -> None:
    assert len(PROFILES) > 100
    assert all(bool(load(name, ()).points) != bool(load(name, ()).items) for name in PROFILES)


@pytest.mark.parametrize("edge", ["highest", "behind_highest"])
def test_a_counter_at_its_end_lies_one_step_from_where_it_begins_anew(edge: str) -> None:
    seen = 0
    for name in PROFILES:
        profile, tables = load(name, ()), read_profile(SHIPPED / f"{name}.toml")
        ends = {
            point.name: (wraps_at(point, {}), point.scale, point.exponent, point.type[0] == "i")
            for point in profile.points
            if point.kind is Kind.TOTALISER
            and not (point.ratios or point.invalid or point.plus is not None)
        } | {
            item.name: (item_wraps_at(item), item.layouts[0].scale, item.exponent, False)
            for item in profile.items
            if item.kind is Kind.TOTALISER
        }
        play = play_registers if profile.points else partial(play_items, reply_bytes=None)
        shown = play(tables, Random(name), edge).mantissas
        for point_name, (end, scale, exponent, is_signed) in ends.items():
            mantissa = shown[point_name]
            # nobody says where a signed register goes on behind its highest number
            if end is None or mantissa is None or (is_signed and edge != "highest"):
                continue
            expected = end - scale if edge == "highest" else 0
            assert mantissa * Fraction(10) ** exponent == expected, (name, point_name)
            seen += 1
    assert seen > 150
