"""What a recorder makes of scans, and of a state directory from before the site was changed."""

import shutil
from dataclasses import replace

import pytest

from agent.tests.fakes import GATEWAY, START_MS, write_site
from agent.tests.histories import BYTES_MAX, Cut, Delivered, Gap, Gateway, Row, messages
from agent.tests.metering import METERS, PROFILE, REFUSAL, VALUES, Bench
from edgeagg import content
from edgeagg.batch import BatchKind
from edgeagg.judged import AuditKind
from edgeagg.model import Catalogue, PointInfo, Quality
from edgeagg_agent import books, metrics
from edgeagg_agent.config import load_site
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.recorder import Recorder
from edgeagg_agent.schedule import Schedule

LATER_MS = START_MS + 60_000


def row(group, due_ms, points):
    return Row(group, due_ms, due_ms + 7, tuple(range(points)), bytes(points))


@pytest.fixture
def present(tmp_path):
    """Return the catalogue of a site of today: the gateway's own meter is its last."""
    catalogue = load_site(write_site(tmp_path)).catalogue()
    assert catalogue.groups[-1].meter == metrics.METER
    return catalogue


def before_it(catalogue):
    """Return the same site's catalogue as agents made it that measured nothing of themselves."""
    return replace(catalogue, meters=catalogue.meters[:-1], groups=catalogue.groups[:-1])


@pytest.fixture
def former(tmp_path, present):
    """Return a state directory of such an agent, and what it read: some of it was cut."""
    catalogue = before_it(present)
    sizes = [len(group.points) for group in catalogue.groups]
    steps = [row(group, START_MS, points) for group, points in enumerate(sizes)]
    steps += [Cut(START_MS + 900), row(0, START_MS + 2_000, sizes[0])]
    return tmp_path / "state", steps


async def test_a_state_from_before_the_gateways_own_meter_is_taken_over_whole(former, present):
    folder, steps = former
    await Gateway(folder, before_it(present)).play([*steps, Cut(START_MS + 3_000)])
    before = messages(folder)
    points = len(present.groups[-1].points)
    own = row(len(present.groups) - 1, LATER_MS, points)
    await Gateway(folder, present, now_ms=LATER_MS).play([own, Cut(LATER_MS + 900)])
    after = messages(folder)
    assert after[: len(before)] == before, "what was cut stays as it was"
    delivered = Delivered(after)
    assert delivered.events == [*(step for step in steps if isinstance(step, Row)), own]
    catalogues = [b for b in delivered.batches if b.kind is BatchKind.CATALOGUE]
    assert [Catalogue.from_bytes(b.payload) for b in catalogues] == [before_it(present), present]
    assert [b.sequence for b in delivered.batches] == list(range(1, len(after) + 1))


async def test_what_the_former_agent_had_not_cut_is_delivered_under_its_own_catalogue(
    former, present
):
    folder, steps = former
    outbox = Outbox(folder, now_ms=START_MS, bytes_max=BYTES_MAX)
    recorder = Recorder(folder, outbox, GATEWAY, before_it(present), now_ms=START_MS)
    for step in steps:
        if isinstance(step, Row):
            step.push(recorder)
    await recorder.commit()  # and then it was killed
    outbox.close()
    await Gateway(folder, present, now_ms=LATER_MS).play([])
    delivered = Delivered(messages(folder))
    assert sorted(e.due_ms for e in delivered.events) == [START_MS] * 3 + [START_MS + 2_000]
    (data,) = [b for b in delivered.batches if b.kind is BatchKind.DATA]
    assert data.schema == before_it(present).hash


async def test_the_former_groups_go_on_behind_their_last_slots_and_the_new_one_begins(
    former, present
):
    folder, steps = former
    await Gateway(folder, before_it(present)).play([*steps, Cut(START_MS + 3_000)])
    for _ in range(2):  # once as the catalogue changes, once from its checkpoint
        outbox = Outbox(folder, now_ms=LATER_MS, bytes_max=BYTES_MAX)
        recorder = Recorder(folder, outbox, GATEWAY, present, now_ms=LATER_MS)
        outbox.close()
        known = [recorder.last_due_ms(group) for group in range(len(present.groups))]
        assert known == [START_MS + 2_000, START_MS, START_MS, None]
    periods_ms = {group: present.groups[group].period_ms for group in range(3)}
    schedule = Schedule(periods_ms, LATER_MS)
    books.take_over(schedule, periods_ms, recorder, LATER_MS)
    await recorder.cut(LATER_MS)
    gaps = [e for e in Delivered(messages(folder)).events if isinstance(e, Gap)]
    assert [(g.group, g.slots, g.reason) for g in gaps] == [
        (0, 29, Quality.STOPPED),
        (1, 30, Quality.STOPPED),
        (2, 60, Quality.STOPPED),
    ]


async def test_a_group_that_was_split_by_periods_begins_anew_and_the_others_go_on(
    tmp_path, former, present
):
    folder, steps = former
    await Gateway(folder, present).play([*steps, Cut(START_MS + 3_000)])
    split = ("tier = 1", 'tier = 1\nperiods = { energy = "60s" }')
    catalogue = load_site(write_site(tmp_path, split)).catalogue()
    outbox = Outbox(folder, now_ms=LATER_MS, bytes_max=BYTES_MAX)
    recorder = Recorder(folder, outbox, GATEWAY, catalogue, now_ms=LATER_MS)
    outbox.close()
    known = [recorder.last_due_ms(group) for group in range(len(catalogue.groups))]
    assert known == [None, None, START_MS, START_MS, None]
    assert [recorder.catalogue.groups[n].meter for n in (0, 1)] == ["incomer"] * 2


@pytest.mark.parametrize("faults", [{}, {(1, 3, 10): REFUSAL}], ids=["good", "refused"])
async def test_a_scan_is_recorded_as_the_row_of_its_values(tmp_path, faults):
    bench = Bench(tmp_path, profile=PROFILE, site=METERS)
    bench.faults = faults
    (scan,) = await bench.readers[0].scan()
    catalogue = bench.site.catalogue()
    values, qualities = scan.decode()
    found = []
    for folder in (tmp_path / "scan", tmp_path / "row"):
        outbox = Outbox(folder, now_ms=START_MS, bytes_max=BYTES_MAX)
        recorder = Recorder(folder, outbox, GATEWAY, catalogue, now_ms=START_MS)
        times = {"due_ms": START_MS, "at_ms": START_MS + 70}
        if folder.name == "scan":
            plan, replies = scan.decoder.plan, scan.replies
            worth = recorder.scan(0, **times, plan=plan, replies=replies, ratios=scan.ratios)
            assert worth == qualities
        else:
            recorder.row(0, **times, values=values, qualities=qualities)
        await recorder.commit()
        # the journal brings it back without the plan that decoded it
        outbox.close()
        again = Outbox(folder, now_ms=START_MS, bytes_max=BYTES_MAX)
        await Recorder(folder, again, GATEWAY, catalogue, now_ms=LATER_MS).cut(LATER_MS)
        again.close()
        found.append(messages(folder))
        shutil.rmtree(folder)
    assert found[0] == found[1]
    (event,) = Delivered(found[0]).events
    refused = (VALUES[0], None, VALUES[2])
    assert event.values == (refused if faults else VALUES)


def unjudged(catalogue):
    """Return the catalogue as agents made it that judged nothing: version 1."""
    groups = tuple(
        replace(g, points=tuple(PointInfo(p.name, p.unit, p.exponent, p.kind) for p in g.points))
        for g in catalogue.groups
    )
    return replace(catalogue, groups=groups, local_time=None)


async def test_a_state_from_before_guards_is_taken_over_and_no_slot_is_forgotten(tmp_path, present):
    before = unjudged(present)
    assert before.to_bytes()[1] == 1
    assert present.to_bytes()[1] == 2
    folder = tmp_path / "state"
    steps = [row(group, START_MS, len(g.points)) for group, g in enumerate(before.groups)]
    await Gateway(folder, before).play([*steps, Cut(START_MS + 900)])
    outbox = Outbox(folder, now_ms=LATER_MS, bytes_max=BYTES_MAX)
    recorder = Recorder(folder, outbox, GATEWAY, present, now_ms=LATER_MS)
    outbox.close()
    known = [recorder.last_due_ms(group) for group in range(len(present.groups))]
    assert known == [START_MS] * len(known), "the slots are the same ones, judged or not"
    catalogues = [
        Catalogue.from_bytes(b.payload)
        for b in Delivered(messages(folder)).batches
        if b.kind is BatchKind.CATALOGUE
    ]
    assert catalogues == [before, present]


async def test_a_meter_that_was_replaced_is_audited_and_nothing_is_counted_across(
    tmp_path, present
):
    folder = tmp_path / "state"
    place = [p.name for p in present.groups[0].points].index("active_energy_import")
    period_ms = present.groups[0].period_ms

    def shown(value):
        values = [0] * len(present.groups[0].points)
        values[place] = value
        return values

    outbox = Outbox(folder, now_ms=START_MS, bytes_max=BYTES_MAX)
    recorder = Recorder(folder, outbox, GATEWAY, present, now_ms=START_MS)
    for slot, value in enumerate([1_000, 1_001, 1_002, 1, 2, 3]):
        due_ms = START_MS + slot * period_ms
        values = shown(value)
        if slot == 3:
            recorder.replaced(0)
        recorder.row(0, due_ms=due_ms, at_ms=due_ms, values=values, qualities=bytes(len(values)))
    await recorder.commit()
    outbox.close()  # killed before the cut: the replacement comes back from the journal
    outbox = Outbox(folder, now_ms=LATER_MS, bytes_max=BYTES_MAX)
    await Recorder(folder, outbox, GATEWAY, present, now_ms=LATER_MS).cut(LATER_MS)
    outbox.close()
    data = [b for b in Delivered(messages(folder)).batches if b.kind is BatchKind.DATA]
    (audit,) = [
        one
        for batch in data
        for one in content.decode(batch.codec, batch.payload, present).audits
        if one.point == place
    ]
    assert audit.kind is AuditKind.REPLACED
    assert (audit.closing, audit.opening, audit.energy) == (1_002, 1, 0)
