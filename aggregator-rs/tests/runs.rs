//! Rows that come in a run give what the same rows give one by one: an aggregator that was restored
//! before every row has no run, and is compared with one that was left alone.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use edgeagg_core::aggregator::{Aggregator, GroupShape};
use edgeagg_core::codec::{decode, CODEC_DELTA};
use edgeagg_core::demand::DemandShape;
use edgeagg_core::reading::Row;
use edgeagg_core::table::{Column, TableKind};
use edgeagg_core::totaliser::Guard;
use edgeagg_core::window::PointKind;

const MINUTE_MS: i64 = 60_000;
const START_MS: i64 = 1_790_000_000_000;
const POINTS: usize = 7;

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
}

/// Gauges, a register and guarded totalisers, in an order that no four beside each other are alike.
fn kinds() -> Vec<PointKind> {
    let guarded = PointKind::Guarded(Guard::new(Some(1_000_000), 40_000, 1).unwrap());
    let gauge = PointKind::Gauge;
    let kinds = [gauge, gauge, guarded, gauge, PointKind::Totaliser, guarded];
    kinds.into_iter().chain([gauge]).collect()
}

fn aggregator(with_demands: bool) -> Aggregator {
    let demand = DemandShape::new(15 * MINUTE_MS, MINUTE_MS).unwrap();
    let demands = [(0, demand), (2, demand), (4, demand)];
    let shape = GroupShape::new(1_000, kinds()).unwrap();
    let shape = shape.with_statistics(&[0, 1, 2, 6]).unwrap();
    let demands = if with_demands { &demands[..] } else { &[] };
    let shape = shape.with_demands(demands).unwrap();
    Aggregator::new(vec![shape], &[5_000, 40_000, MINUTE_MS]).unwrap()
}

/// Rows of a meter in good health, of which `trouble` in a thousand are not.
fn rows(dice: &mut Dice, trouble: i64, largest: i64) -> Vec<Row> {
    let mut values: Vec<i64> = (0..POINTS).map(|_| dice.roll(10_000)).collect();
    let mut rows = Vec::new();
    let mut slot = 0;
    while rows.len() < 250 {
        slot += if dice.roll(40) == 0 { 4 } else { 1 };
        for (kind, value) in kinds().iter().zip(&mut values) {
            *value = match kind {
                PointKind::Gauge => dice.roll(2 * largest) - largest,
                // a register's fall would change windows that were cut before it
                PointKind::Guarded(_) if dice.roll(1_000) < trouble => *value / 2,
                _ => *value + dice.roll(12),
            };
        }
        let late_ms = match dice.roll(1_000) {
            it if it < trouble => dice.roll(60_000) - 30_000,
            _ => dice.roll(900),
        };
        let is_read = |dice: &mut Dice| dice.roll(2_000) >= trouble;
        let values: Vec<_> = values
            .iter()
            .map(|&it| is_read(dice).then_some(it))
            .collect();
        let due_ms = START_MS + slot * 1_000;
        rows.push(Row {
            due_ms,
            at_ms: due_ms + late_ms,
            qualities: values.iter().map(|it| u8::from(it.is_none())).collect(),
            values,
        });
    }
    rows
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

/// Take the rows in, one by one or not, with cuts in between; return all there is to know then.
fn lived(rows: &[Row], dice: &mut Dice, alone: bool) -> (Vec<Told>, Vec<u8>) {
    let with_demands = dice.roll(2) == 0;
    let mut aggregator = aggregator(with_demands);
    let mut all = Vec::new();
    for row in rows {
        if alone {
            told(&mut aggregator, i64::MIN / 2, &mut all);
            let snapshot = aggregator.snapshot().unwrap();
            aggregator.restore(&snapshot).unwrap();
        }
        aggregator.push_row(0, row.clone()).unwrap();
        if dice.roll(50) == 0 {
            told(&mut aggregator, row.due_ms + dice.roll(5_000), &mut all);
        }
    }
    told(&mut aggregator, rows.last().unwrap().due_ms, &mut all);
    all.sort();
    (all, aggregator.snapshot().unwrap())
}

#[test]
fn rows_in_a_run_give_what_they_give_one_by_one() {
    let mut count = 0;
    for seed in 1..=12_u64 {
        let dice = &mut Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let trouble = [0, 0, 3, 40][dice.roll(4) as usize];
        // sums beyond 64 bits and squares beyond 64 bits, both, and neither
        let largest = [1_000, 100_000, 1 << 33, i64::MAX / 2][dice.roll(4) as usize];
        let rows = rows(dice, trouble, largest);
        let cuts = dice.roll(i64::MAX) as u64 | 1;
        let together = lived(&rows, &mut Dice(cuts), false);
        let alone = lived(&rows, &mut Dice(cuts), true);
        assert!(together == alone, "seed {seed}");
        let windows = TableKind::Windows.code();
        count += together.0.iter().filter(|it| it.0 == windows).count();
    }
    assert!(count > 100, "{count} windows");
}
