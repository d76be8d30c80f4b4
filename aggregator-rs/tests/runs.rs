//! Rows that come in a run give what the same rows give one by one: an aggregator that is cut and
//! restored before every row has no run, and is compared with one that was left alone. No window is
//! told by a cut before its end, so that the cuts between rows leave registers free to fall.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use edgeagg_core::aggregator::{Aggregator, GroupShape, CUT_CELLS_MAX};
use edgeagg_core::codec::{decode, CODEC_DELTA};
use edgeagg_core::demand::DemandShape;
use edgeagg_core::reading::{Gap, Row, GOOD, IMPLAUSIBLE};
use edgeagg_core::table::{Column, TableKind};
use edgeagg_core::totaliser::Guard;
use edgeagg_core::window::PointKind;

const MINUTE_MS: i64 = 60_000;
const START_MS: i64 = 1_790_000_000_000;
/// Where a register begins again from 0.
const WRAPS_AT: i64 = 3_000;
const ROWS: usize = 250;
const SEEDS: u64 = 170;

/// What happens to the group of an aggregator.
enum Event {
    Row(Row),
    Gap(Gap),
    Replaced,
    Restarted(i64),
    Cut(i64),
}

/// A group, and what happens to it.
struct Life {
    shape: GroupShape,
    lengths_ms: Vec<i64>,
    events: Vec<Event>,
}

/// A row of a table, with the kind and the length of the table.
type Told = (u8, u32, Vec<Column>);

/// xorshift64*: the same numbers for the same seed everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: i64) -> i64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let mixed = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d);
        ((mixed ^ mixed >> 32) >> 1) as i64 % sides
    }

    /// Whether something happens that does so `thousandths` times in a thousand.
    fn hits(&mut self, thousandths: i64) -> bool {
        self.roll(1_000) < thousandths
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len() as i64) as usize]
    }
}

/// Points of all kinds, in an order that no four side by side are alike, or of some kinds only:
/// what a totaliser asks for must not hide what is done to gauges.
fn kinds(dice: &mut Dice, period_ms: i64) -> Vec<PointKind> {
    let rate_max_per_h = 12 * 3_600_000 / period_ms;
    let guarded = |end| PointKind::Guarded(Guard::new(end, rate_max_per_h, 1).unwrap());
    let (gauge, register) = (PointKind::Gauge, PointKind::Totaliser);
    match dice.roll(4) {
        0 => vec![gauge; 5],
        1 => vec![gauge, register],
        2 => vec![guarded(Some(WRAPS_AT))],
        _ => {
            let (rolls, never) = (guarded(Some(WRAPS_AT)), guarded(None));
            vec![gauge, gauge, rolls, gauge, register, never, gauge]
        }
    }
}

fn shape(dice: &mut Dice, period_ms: i64, kinds: Vec<PointKind>) -> GroupShape {
    let sampled: Vec<usize> = (0..kinds.len()).filter(|_| dice.roll(2) == 0).collect();
    let with_demands = dice.roll(2) == 0;
    let demand = DemandShape::new(15 * MINUTE_MS, MINUTE_MS).unwrap();
    let demands = (0..kinds.len()).filter(|point| with_demands && point % 2 == 0);
    let demands: Vec<_> = demands.map(|point| (point, demand)).collect();
    let shape = GroupShape::new(period_ms, kinds).unwrap();
    let shape = shape.with_statistics(&sampled).unwrap();
    shape.with_demands(&demands).unwrap()
}

/// What a point holds next; `trouble` times in a thousand a register begins anew, lower.
fn next(dice: &mut Dice, kind: PointKind, held: i64, trouble: i64, largest: i64) -> i64 {
    let counted = held + dice.roll(12);
    match kind {
        PointKind::Gauge => dice.roll(2 * largest) - largest,
        _ if dice.hits(trouble) => held / 2,
        PointKind::Totaliser => counted,
        PointKind::Guarded(_) => counted % WRAPS_AT,
    }
}

/// What is read of it; a register is sometimes seen where it is not, mostly a little below.
fn seen(dice: &mut Dice, kind: PointKind, held: i64, trouble: i64) -> (Option<i64>, u8) {
    let value = match kind {
        PointKind::Gauge => held,
        _ if dice.hits(trouble) => dice.pick(&[0, held / 2, (held - 1).max(0), held + 10_000]),
        _ => held,
    };
    match dice.roll(4_000) {
        it if it < trouble => (None, 1),
        // a flagged value is a value all the same
        it if it < 2 * trouble => (Some(value), IMPLAUSIBLE),
        _ => (Some(value), GOOD),
    }
}

/// A meter in good health, or in trouble so many times in a thousand: registers fall, values are
/// missing, slots are left out, rows come late and clocks are set.
fn life(dice: &mut Dice) -> Life {
    let period_ms = dice.pick(&[1_000, 10_000, MINUTE_MS]);
    let kinds = kinds(dice, period_ms);
    // in one chain, in two, and none
    let lengths: &[i64] = dice.pick(&[&[5, 40, 60], &[5, 7, 40], &[]]);
    let lengths_ms = lengths.iter().map(|periods| periods * period_ms).collect();
    let shape = shape(dice, period_ms, kinds.clone());
    let events = events(dice, period_ms, &kinds);
    Life {
        shape,
        lengths_ms,
        events,
    }
}

fn events(dice: &mut Dice, period_ms: i64, kinds: &[PointKind]) -> Vec<Event> {
    let trouble = dice.pick(&[0, 3, 10, 40]);
    // sums beyond 64 bits and squares beyond 64 bits, both, and neither
    let largest = dice.pick(&[1_000, 100_000, 1 << 33, i64::MAX / 2]);
    let mut held: Vec<i64> = kinds.iter().map(|_| dice.roll(WRAPS_AT)).collect();
    let (mut events, mut slot, mut off_ms) = (Vec::new(), 0, 0);
    for _ in 0..ROWS {
        // two slots left out are a step that is interpolated over, but longer than a value is held
        let left_out = if dice.hits(50) { dice.roll(5) } else { 0 };
        let due_ms = START_MS + (slot + 1 + left_out) * period_ms;
        if left_out > 0 && dice.hits(500) {
            events.push(Event::Gap(Gap {
                first_due_ms: START_MS + (slot + 1) * period_ms,
                last_due_ms: due_ms - period_ms,
                slots: left_out as u32,
                reason: 1,
            }));
        }
        slot += 1 + left_out;
        if dice.hits(trouble) {
            off_ms = dice.pick(&[0, 0, 1, -1]) * dice.roll(8 * period_ms);
        }
        for (kind, held) in kinds.iter().zip(&mut held) {
            *held = next(dice, *kind, *held, trouble / 8, largest);
        }
        let at_ms = due_ms + off_ms + late_ms(dice, period_ms, trouble);
        events.push(Event::Row(row(
            dice,
            [due_ms, at_ms],
            kinds,
            &held,
            trouble,
        )));
        if dice.hits(20) {
            let now_ms = due_ms + dice.roll(8 * period_ms) - 2 * period_ms;
            events.push(Event::Cut(now_ms));
        }
        if dice.hits(trouble / 8) {
            events.push(Event::Replaced);
        }
        if dice.hits(trouble / 8) {
            slot += dice.roll(200) - 100;
            events.push(Event::Restarted(START_MS + slot * period_ms));
        }
    }
    events.push(Event::Cut(START_MS + slot * period_ms));
    events
}

/// How long a slot is read behind its time.
fn late_ms(dice: &mut Dice, period_ms: i64, trouble: i64) -> i64 {
    let latest_ms = if dice.hits(trouble) { 6 } else { 1 } * period_ms;
    // a row read at the very start of a window touches the end of the one before
    if dice.hits(700) {
        dice.roll(latest_ms)
    } else {
        0
    }
}

fn row(
    dice: &mut Dice,
    [due_ms, at_ms]: [i64; 2],
    kinds: &[PointKind],
    held: &[i64],
    trouble: i64,
) -> Row {
    let cells = kinds.iter().zip(held);
    let cells = cells.map(|(kind, held)| seen(dice, *kind, *held, trouble));
    let (values, qualities) = cells.unzip();
    Row {
        due_ms,
        at_ms,
        values,
        qualities,
    }
}

/// All rows of all tables, but not how they were spread over cuts.
fn told(aggregator: &mut Aggregator, now_ms: i64, told: &mut Vec<Told>) {
    while let Some(cut) = aggregator.cut(now_ms) {
        let payload = cut.encode_as(CODEC_DELTA).unwrap();
        for table in decode(CODEC_DELTA, &payload).unwrap() {
            let key = (table.kind().code(), table.length_ms());
            for row in 0..table.rows() {
                let cells = table.columns().iter().map(|column| vec![column[row]]);
                told.push((key.0, key.1, cells.collect()));
            }
        }
    }
}

/// Live the events, every row on its own or not; return all there is to know then.
fn lived(life: &Life, alone: bool) -> (Vec<Told>, Vec<u8>) {
    let mut aggregator = Aggregator::new(vec![life.shape.clone()], &life.lengths_ms).unwrap();
    let mut all = Vec::new();
    for event in &life.events {
        if alone {
            // a snapshot needs all rows cut; so early a cut tells no window
            told(&mut aggregator, i64::MIN / 2, &mut all);
            let snapshot = aggregator.snapshot().unwrap();
            aggregator.restore(&snapshot).unwrap();
        }
        match event {
            Event::Row(row) => drop(aggregator.push_row(0, row.clone()).unwrap()),
            Event::Gap(gap) => drop(aggregator.push_gap(0, *gap).unwrap()),
            Event::Replaced => drop(aggregator.replace_meter(0).unwrap()),
            Event::Restarted(last_ms) => drop(aggregator.restart_group(0, *last_ms).unwrap()),
            Event::Cut(now_ms) => told(&mut aggregator, *now_ms, &mut all),
        }
    }
    all.sort();
    (all, aggregator.snapshot().unwrap())
}

#[test]
fn rows_in_a_run_give_what_they_give_one_by_one() {
    let mut count = 0;
    for seed in 1..=SEEDS {
        let life = life(&mut Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let together = lived(&life, false);
        assert!(together == lived(&life, true), "seed {seed}");
        let windows = TableKind::Windows.code();
        count += together.0.iter().filter(|it| it.0 == windows).count();
    }
    assert!(count > 1_000, "{count} windows");
}

#[test]
fn rows_that_two_payloads_share_keep_their_reasons() {
    let points: i64 = 7;
    let shape = GroupShape::new(1_000, vec![PointKind::Gauge; 7]).unwrap();
    let mut aggregator = Aggregator::new(vec![shape], &[]).unwrap();
    let mut expected = Vec::new();
    for slot in 0..2_000 {
        let quality = |point| i64::from((slot + point) % 10 == 0);
        let value = |point| Some(slot * points + point).filter(|_| quality(point) == 0);
        let due_ms = START_MS + slot * 1_000;
        let row = Row {
            due_ms,
            at_ms: due_ms,
            values: (0..points).map(value).collect(),
            qualities: (0..points).map(|point| quality(point) as u8).collect(),
        };
        aggregator.push_row(0, row).unwrap();
        let qualities = (0..points).map(|point| Some(quality(point)));
        let cells = [Some(due_ms), Some(0)].into_iter();
        let cells = cells.chain((0..points).map(value)).chain(qualities);
        expected.push((
            TableKind::Readings.code(),
            0,
            cells.map(|it| vec![it]).collect(),
        ));
    }
    assert!(aggregator.pending_cells() > CUT_CELLS_MAX);
    let mut all = Vec::new();
    told(&mut aggregator, START_MS, &mut all);
    assert!(all == expected);
}
