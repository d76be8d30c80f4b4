"""SunSpec discovery: the marker, the list of models, lists that lie."""

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagg.errors import ProtocolError
from edgeagg_agent.protocol.sunspec import KNOWN, MODELS_MAX, Block, Model, discover

END = (0xFFFF, 0)


def words(*numbers):
    return struct.pack(f">{len(numbers)}H", *numbers)


def listed(base, *models, end=END):
    """Lay out a device: marker at `base`, models (id, length) filled with zeros, the end."""
    registers = [0x5375, 0x6E53]
    for number, length in models:
        registers += [number, length, *(0,) * length]
    return {base + at: word for at, word in enumerate([*registers, *(end or ())])}


def ask(device):
    """Play the device, which refuses what is not there; return the models and the reads."""
    steps, reads, answer = discover(), [], None
    try:
        while True:
            block = steps.send(answer)
            reads.append(block)
            wanted = range(block.start, block.start + block.count)
            whole = all(register in device for register in wanted)
            answer = words(*(device[register] for register in wanted)) if whole else None
    except StopIteration as stop:
        return stop.value, reads


def test_the_models_of_an_inverter_with_a_meter():
    models, reads = ask(listed(40000, (1, 66), (103, 50), (203, 105)))
    assert models == (Model(1, 40002, 66), Model(103, 40070, 50), Model(203, 40122, 105))
    assert [model.name for model in models] == [
        "common",
        "three-phase inverter",
        "three-phase wye meter",
    ]
    assert reads == [
        Block(3, 40000, 4),
        Block(3, 40070, 2),
        Block(3, 40122, 2),
        Block(3, 40229, 2),
    ]


@pytest.mark.parametrize(("base", "tried"), [(40000, 1), (0, 2), (50000, 3)])
def test_the_marker_is_looked_for_in_three_places(base, tried):
    models, reads = ask(listed(base, (1, 65), (802, 62)))
    assert models == (Model(1, base + 2, 65), Model(802, base + 69, 62))
    assert len(reads) == tried + 2


def test_registers_without_the_marker_are_no_sunspec_device():
    with pytest.raises(ProtocolError, match="no SunSpec marker at register 40000, 0, 50000"):
        ask({})
    with pytest.raises(ProtocolError, match="no SunSpec marker"):
        ask({register: 0 for base in (0, 40000, 50000) for register in range(base, base + 9)})


def test_the_function_is_the_callers():
    assert next(discover(4)) == Block(4, 40000, 4)


@pytest.mark.parametrize("number", KNOWN)
def test_every_known_model_is_found_with_its_name(number):
    name, length = KNOWN[number]
    models, _ = ask(listed(40000, (1, 66), (number, length)))
    assert models[-1].id == number
    assert models[-1].name == name


def test_the_known_models_are_those_of_our_profiles():
    numbers = [1, 101, 102, 103, 111, 112, 113, 201, 202, 203, 204, 211, 212, 213, 214, 802]
    assert list(KNOWN) == numbers


def test_an_unknown_model_is_listed_without_a_name():
    models, _ = ask(listed(40000, (1, 66), (64001, 0), (160, 88)))
    assert [(model.id, model.name) for model in models] == [
        (1, "common"),
        (64001, None),
        (160, None),
    ]


def test_a_list_whose_end_is_refused_ends_there():
    models, _ = ask(listed(40000, (1, 66), (103, 50), end=None))
    assert [model.id for model in models] == [1, 103]


def test_a_list_may_be_empty():
    assert ask(listed(40000) | {40002: 0xFFFF, 40003: 0})[0] == ()


@pytest.mark.parametrize(
    ("models", "what"),
    [
        ([(1, 66), (0, 0)], "model 0 at register 40070: there is no such model"),
        ([(1, 66), (64001, 0xFFFF)], "65535 registers leave no room"),
        ([(1, 66), (64001, 25463)], "leave no room"),
        ([(1, 64)], "64 registers long, its values take 65"),
        ([(1, 66), (103, 49)], "49 registers long, its values take 50"),
        ([(1, 66), (213, 105)], "105 registers long, its values take 124"),
        ([(64001, 0)] * (MODELS_MAX + 1), "more than 64 SunSpec models"),
    ],
)
def test_a_list_that_lies_is_refused(models, what):
    device = listed(40000, *models)
    with pytest.raises(ProtocolError, match=what):
        ask(device)


def test_a_list_of_as_many_models_as_allowed_is_taken():
    assert len(ask(listed(40000, *[(64001, 0)] * MODELS_MAX))[0]) == MODELS_MAX


def test_the_last_model_may_end_just_before_the_last_registers():
    length = 65536 - 2 - 40070 - 2
    models, _ = ask(listed(40000, (1, 66), (64001, length)))
    assert models[-1].end == 65534


def test_an_answer_of_another_size_is_a_mistake_of_the_caller():
    steps = discover()
    next(steps)
    with pytest.raises(ValueError, match="7 bytes for 4 registers"):
        steps.send(bytes(7))


@settings(deadline=None)  # the machine may be busy
@given(st.randoms(use_true_random=False))
def test_a_device_of_random_registers_ends(random):
    # small lengths, so that the list gets long; the marker stands where it is looked for first
    def played():
        steps, answer = discover(), None
        while True:
            block = steps.send(answer)
            assert 0 <= block.start <= 0x10000 - block.count
            yield block
            head = words(random.choice([0, 7, 64001, 64002, 0xFFFF]), random.randrange(9))
            full = words(0x5375, 0x6E53) + head
            answer = random.choice([full[-2 * block.count :]] * 9 + [None])

    reads = 0
    with contextlib.suppress(ProtocolError, RuntimeError):  # a list that lies; the list's end
        for _ in played():
            reads += 1
    assert 1 <= reads <= MODELS_MAX + 2


@pytest.mark.parametrize("length", [0, 1, 50, 123])
def test_a_short_model_is_one_read_with_its_header(length):
    assert Model(103, 40070, length).blocks() == [Block(3, 40070, length + 2)]


def test_a_float_meter_of_126_registers_is_read_without_its_header():
    assert Model(213, 40070, 124).blocks() == [Block(3, 40072, 124)]


def test_a_longer_model_takes_two_reads_of_whole_values():
    assert Model(701, 100, 153).blocks() == [Block(3, 102, 124), Block(3, 226, 29)]
    assert Model(213, 100, 124).blocks(registers_max=64) == [Block(3, 102, 64), Block(3, 166, 60)]
    assert Model(213, 100, 124).blocks(63, 4) == [Block(4, 102, 62), Block(4, 164, 62)]
    with pytest.raises(ValueError, match="at least 2"):
        Model(213, 100, 124).blocks(1)


@settings(deadline=None)  # the machine may be busy
@given(st.integers(0, 65000), st.integers(0, 500), st.integers(2, 125))
def test_blocks_cover_a_model_and_tear_no_pair(start, length, registers_max):
    model = Model(211, start, length)
    blocks = model.blocks(registers_max)
    covered = [at for block in blocks for at in range(block.start, block.start + block.count)]
    first = start if len(blocks) == 1 and length + 2 <= registers_max else start + 2
    assert covered == list(range(first, model.end))
    assert all(0 < block.count <= registers_max for block in blocks)
    assert all((block.start - start) % 2 == 0 for block in blocks)
