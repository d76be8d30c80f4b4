//! Windows by example: each number below can be checked with pencil and paper.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use edgeagg_core::aggregator::{Aggregator, Cut, GroupShape};
use edgeagg_core::calendar::{DAY_MS, HOUR_MS, MONTH_MS};
use edgeagg_core::codec::decode;
use edgeagg_core::reading::{Gap, Row};
use edgeagg_core::table::{Table, TableKind, WINDOW_COLUMNS};
use edgeagg_core::window::PointKind::{self, Gauge, Totaliser};

const SLOTS: usize = 0;
const VALUES: usize = 1;
const MEAN: usize = 4;
const FIRST: usize = 5;
const LAST: usize = 6;
const ENERGY: usize = 7;
const COVERED_MS: usize = 8;
const WORST: usize = 9;

fn aggregator(kind: PointKind) -> Aggregator {
    let shape = GroupShape::new(1_000, vec![kind]).unwrap();
    Aggregator::new(vec![shape], &[10_000]).unwrap()
}

fn push(aggregator: &mut Aggregator, at_ms: i64, value: Option<i64>) -> Vec<u8> {
    let row = Row {
        due_ms: at_ms,
        at_ms,
        values: vec![value],
        qualities: vec![u8::from(value.is_none())],
    };
    aggregator.push_row(0, row).unwrap()
}

fn tables(aggregator: &mut Aggregator, now_ms: i64) -> Vec<Table> {
    let mut tables = Vec::new();
    while let Some(cut) = aggregator.cut(now_ms).unwrap() {
        tables.extend(decoded(&cut));
    }
    tables
}

/// Start and columns of every closed window of point 0.
fn windows(aggregator: &mut Aggregator, now_ms: i64) -> Vec<(i64, [Option<i64>; WINDOW_COLUMNS])> {
    let mut rows = Vec::new();
    for table in tables(aggregator, now_ms) {
        if table.kind() == TableKind::Windows {
            for row in 0..table.rows() {
                let mut columns = [None; WINDOW_COLUMNS];
                for (index, column) in columns.iter_mut().enumerate() {
                    *column = table.columns()[1 + index][row];
                }
                rows.push((table.columns()[0][row].unwrap(), columns));
            }
        }
    }
    rows
}

#[test]
fn the_mean_of_a_gauge_is_weighted_by_time() {
    let mut aggregator = aggregator(Gauge);
    // 100 for 1.5 s, then 200 for 0.5 s, then 0 until the reading at 4 s fails: 2 s
    for (at_ms, value) in [
        (0, Some(100)),
        (1_500, Some(200)),
        (2_000, Some(0)),
        (4_000, None),
    ] {
        push(&mut aggregator, at_ms, value);
    }
    let [(start_ms, columns)] = windows(&mut aggregator, 12_000)[..] else {
        panic!("one window expected");
    };
    assert_eq!(start_ms, 0);
    assert_eq!((columns[SLOTS], columns[VALUES]), (Some(4), Some(3)));
    assert_eq!(columns[COVERED_MS], Some(4_000));
    assert_eq!(
        columns[MEAN],
        Some((100 * 1_500 + 200 * 500) * 1_000 / 4_000)
    );
    assert_eq!((columns[FIRST], columns[LAST]), (Some(100), Some(0)));
    assert_eq!(columns[WORST], Some(1));
}

#[test]
fn energies_of_neighbouring_windows_add_up_to_the_register() {
    let mut aggregator = aggregator(Totaliser);
    // read 0.3 s past each second, so every window boundary lies between two readings
    for second in 0..=40_i64 {
        push(
            &mut aggregator,
            second * 1_000 + 300,
            Some(7 * second * second),
        );
    }
    let rows = windows(&mut aggregator, 60_000);
    let starts: Vec<i64> = rows.iter().map(|row| row.0).collect();
    assert_eq!(starts, [0, 10_000, 20_000, 30_000, 40_000]);
    // boundary between second k-1 and k, 0.7 of the way: f(k-1) + 0.7 (f(k) - f(k-1)), rounded
    let boundary = |k: i64| {
        let (a, b) = (7 * (k - 1) * (k - 1), 7 * k * k);
        a + ((b - a) * 700 + 500) / 1_000
    };
    for (index, k) in [10, 20, 30].into_iter().enumerate() {
        assert_eq!(
            rows[index + 1].1[ENERGY],
            Some(boundary(k + 10) - boundary(k))
        );
    }
    // the first window began before the first reading, the last one has not ended: no energy
    assert_eq!(rows[0].1[ENERGY], None);
    assert_eq!(rows[4].1[ENERGY], None);
}

#[test]
fn a_totaliser_that_runs_backwards_has_no_energy_in_that_window_only() {
    let mut aggregator = aggregator(Totaliser);
    for second in 0..=40_i64 {
        let value = if second < 15 { 1_000 + second } else { second };
        push(&mut aggregator, second * 1_000, Some(value));
    }
    let energies: Vec<Option<i64>> = windows(&mut aggregator, 60_000)
        .iter()
        .map(|row| row.1[ENERGY])
        .collect();
    assert_eq!(energies, [Some(10), None, Some(10), Some(10), None]);
}

#[test]
fn energy_is_not_guessed_across_a_long_silence() {
    let mut aggregator = aggregator(Totaliser);
    for second in (0..=12).chain(18..=40) {
        push(&mut aggregator, second * 1_000, Some(second));
    }
    let rows = windows(&mut aggregator, 60_000);
    assert_eq!(
        rows[1].1[ENERGY],
        Some(10),
        "12 s to 18 s lies inside the window"
    );
    assert_eq!(rows[2].1[ENERGY], Some(10));
    let mut aggregator = self::aggregator(Totaliser);
    for second in (0..=17).chain(23..=40) {
        push(&mut aggregator, second * 1_000, Some(second));
    }
    let rows = windows(&mut aggregator, 60_000);
    assert_eq!(rows[1].1[ENERGY], None, "its end lies in the silence");
    assert_eq!(rows[2].1[ENERGY], None, "its start lies in the silence");
    assert_eq!(rows[3].1[ENERGY], Some(10));
}

#[test]
fn a_window_waits_for_the_reading_behind_its_end() {
    let mut aggregator = aggregator(Totaliser);
    for second in 0..=9 {
        push(&mut aggregator, second * 1_000 + 500, Some(second * 10));
    }
    assert_eq!(windows(&mut aggregator, 12_100), []);
    push(&mut aggregator, 12_200, None);
    push(&mut aggregator, 12_300, Some(500));
    assert_eq!(windows(&mut aggregator, 12_400).len(), 1);
}

#[test]
fn a_window_that_a_reading_from_ahead_of_the_time_ended_waits_for_its_time() {
    let mut aggregator = aggregator(Totaliser);
    for second in 0..=8 {
        push_at(
            &mut aggregator,
            second * 1_000,
            second * 1_000,
            100 + second,
        );
    }
    push_at(&mut aggregator, 9_000, 11_000, 109);
    assert_eq!(windows(&mut aggregator, 9_100), []);
    assert_eq!(windows(&mut aggregator, 11_999), []);
    // the clock is set back, and what was counted falls across the window's end
    push_at(&mut aggregator, 10_000, 9_500, 109);
    push_at(&mut aggregator, 11_000, 12_000, 10);
    let rows = windows(&mut aggregator, 12_000);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].1[ENERGY], None);
    // one that has been told does not change
    push_at(&mut aggregator, 22_000, 22_000, 20);
    push_at(&mut aggregator, 23_000, 8_000, 5);
    assert!(windows(&mut aggregator, 23_999).iter().all(|it| it.0 > 0));
}

#[test]
fn a_reading_behind_its_window_is_delivered_but_not_counted_in_it() {
    let mut aggregator = aggregator(Gauge);
    push(&mut aggregator, 1_000, Some(1));
    assert_eq!(windows(&mut aggregator, 12_000).len(), 1);
    let row = Row {
        due_ms: 2_000,
        at_ms: 9_000,
        values: vec![Some(2)],
        qualities: vec![0],
    };
    aggregator.push_row(0, row).unwrap();
    assert_eq!(aggregator.late(), 1);
    let tables = tables(&mut aggregator, 30_000);
    assert_eq!(tables.len(), 1);
    assert_eq!(tables[0].kind(), TableKind::Readings);
}

fn push_at(aggregator: &mut Aggregator, due_ms: i64, at_ms: i64, value: i64) {
    let row = Row {
        due_ms,
        at_ms,
        values: vec![Some(value)],
        qualities: vec![0],
    };
    aggregator.push_row(0, row).unwrap();
}

#[test]
fn two_readings_of_one_moment_on_a_boundary_settle_nothing() {
    let mut aggregator = aggregator(Totaliser);
    for (due_ms, at_ms, value) in [
        (10_000, 10_000, 100),
        (11_000, 10_000, 101),
        (12_000, 12_000, 103),
        (19_000, 19_000, 110),
        (21_000, 21_000, 112),
    ] {
        push_at(&mut aggregator, due_ms, at_ms, value);
    }
    let rows = windows(&mut aggregator, 60_000);
    // from 101 at 10 s, the later of the two, to 111 at 20 s
    assert_eq!(rows[0].1[ENERGY], Some(10));
}

#[test]
fn a_clock_set_back_inside_a_window_covers_no_time_twice() {
    let mut aggregator = aggregator(Gauge);
    for second in 0..=8_i64 {
        push_at(&mut aggregator, second * 1_000, second * 1_000, 5);
    }
    for second in 9..=15_i64 {
        push_at(&mut aggregator, second * 1_000, (second - 6) * 1_000, 5);
    }
    let rows = windows(&mut aggregator, 60_000);
    assert_eq!(rows[0].1[COVERED_MS], Some(10_000));
    assert_eq!(rows[0].1[MEAN], Some(5_000));
}

/// Closed windows of point 0 by length, with their start.
fn windows_of_every_length(
    aggregator: &mut Aggregator,
    now_ms: i64,
) -> Vec<(u32, i64, [Option<i64>; WINDOW_COLUMNS])> {
    let mut rows = Vec::new();
    for table in tables(aggregator, now_ms) {
        if table.kind() == TableKind::Windows {
            for row in 0..table.rows() {
                let mut columns = [None; WINDOW_COLUMNS];
                for (index, column) in columns.iter_mut().enumerate() {
                    *column = table.columns()[1 + index][row];
                }
                rows.push((table.length_ms(), table.columns()[0][row].unwrap(), columns));
            }
        }
    }
    rows
}

fn of_lengths(kind: PointKind, period_ms: i64, lengths_ms: &[i64]) -> Aggregator {
    let shape = GroupShape::new(period_ms, vec![kind]).unwrap();
    Aggregator::new(vec![shape], lengths_ms).unwrap()
}

#[test]
fn a_long_window_made_of_short_ones_is_that_of_the_rows() {
    for kind in [Gauge, Totaliser] {
        let mut made = of_lengths(kind, 1_000, &[10_000, 60_000]);
        let mut direct = of_lengths(kind, 1_000, &[60_000]);
        for second in 0..400_i64 {
            // silences of up to 29 s, that short windows lie in without a row
            if second % 90 > 60 {
                continue;
            }
            let value = (second % 7 != 3).then_some(second * second);
            push(&mut made, second * 1_000 + second, value);
            push(&mut direct, second * 1_000 + second, value);
            if second % 13 != 0 {
                continue;
            }
            let now_ms = second * 1_000 + 900;
            let found = windows_of_every_length(&mut made, now_ms);
            let long: Vec<_> = found.into_iter().filter(|it| it.0 == 60_000).collect();
            assert_eq!(long, windows_of_every_length(&mut direct, now_ms));
        }
    }
}

#[test]
fn a_value_held_over_a_short_window_without_a_row_counts_in_the_long_one() {
    let mut aggregator = of_lengths(Gauge, 10_000, &[10_000, 60_000]);
    push(&mut aggregator, 9_000, Some(6));
    // held for two periods, up to 29 s: no row lies in 10 to 20 s, nor in 20 to 30 s
    push(&mut aggregator, 50_000, Some(6));
    let covered: Vec<_> = windows_of_every_length(&mut aggregator, 90_000)
        .into_iter()
        .map(|(length_ms, start_ms, columns)| (length_ms, start_ms, columns[COVERED_MS]))
        .collect();
    let expected = [
        (10_000, 0, Some(1_000)),
        (10_000, 50_000, Some(10_000)),
        (60_000, 0, Some(30_000)),
    ];
    assert_eq!(covered, expected);
}

#[test]
fn a_row_too_late_for_its_short_window_is_in_no_longer_one() {
    let mut aggregator = of_lengths(Gauge, 1_000, &[10_000, 60_000]);
    push_at(&mut aggregator, 1_000, 1_000, 5);
    push_at(&mut aggregator, 2_000, 11_000, 5);
    push_at(&mut aggregator, 3_000, 9_000, 99);
    assert_eq!(aggregator.late(), 1);
    let rows = windows_of_every_length(&mut aggregator, 70_000);
    let long = rows.iter().find(|it| it.0 == 60_000).unwrap();
    assert_eq!((long.2[SLOTS], long.2[LAST]), (Some(2), Some(5)));
}

#[test]
fn a_month_is_made_of_its_days() {
    let mut aggregator = of_lengths(Totaliser, HOUR_MS, &[DAY_MS, MONTH_MS]);
    // in Shanghai July 2026 begins on 30 June, 16 hours UTC; the register shows 3 a hour
    let july_ms = (20_454 + 180) * DAY_MS + 16 * HOUR_MS;
    for hour in -30..31 * 24 + 5 {
        push(
            &mut aggregator,
            july_ms + hour * HOUR_MS,
            Some(3_000 + 3 * hour),
        );
    }
    let rows = windows_of_every_length(&mut aggregator, july_ms + 40 * DAY_MS);
    let energy = |length_ms: i64, start_ms: i64| {
        let mut found = rows.iter().filter(|it| i64::from(it.0) == length_ms);
        found.find(|it| it.1 == start_ms).unwrap().2[ENERGY]
    };
    assert_eq!(energy(MONTH_MS, july_ms), Some(31 * 24 * 3));
    for day in 0..31 {
        assert_eq!(energy(DAY_MS, july_ms + day * DAY_MS), Some(24 * 3));
    }
}

#[test]
fn a_slot_is_taken_once() {
    let mut aggregator = aggregator(Gauge);
    push(&mut aggregator, 1_000, Some(1));
    let again = Row {
        due_ms: 1_000,
        at_ms: 1_000,
        values: vec![Some(1)],
        qualities: vec![0],
    };
    assert!(aggregator.push_row(0, again).is_err());
    let gap = |first_due_ms, last_due_ms| Gap {
        first_due_ms,
        last_due_ms,
        slots: 3,
        reason: 7,
    };
    assert!(aggregator.push_gap(0, gap(1_000, 3_000)).is_err());
    assert!(aggregator.push_gap(0, gap(2_000, 4_000)).is_ok());
    assert_eq!(aggregator.last_due_ms(0), Ok(Some(4_000)));
}

#[test]
fn a_value_may_not_be_missing_without_a_reason() {
    let row = Row {
        due_ms: 0,
        at_ms: 0,
        values: vec![None],
        qualities: vec![0],
    };
    assert!(aggregator(Gauge).push_row(0, row).is_err());
}

#[test]
fn restart_from_a_snapshot_and_the_records_behind_it_changes_no_bit() {
    for kill_at in 1..60_i64 {
        let mut whole = aggregator(Totaliser);
        let mut snapshot = whole.snapshot().unwrap();
        let mut records: Vec<Vec<u8>> = Vec::new();
        for second in 0..60_i64 {
            let value = (second % 7 != 3).then_some(second * second);
            let record = push(&mut whole, second * 1_000 + second * 13, value);
            records.push(record);
            if second == kill_at {
                let mut again = aggregator(Totaliser);
                again.restore(&snapshot).unwrap();
                for record in &records {
                    again.replay(record).unwrap();
                }
                whole = again;
            }
            if second % 8 == 7 {
                tables(&mut whole, second * 1_000 + 900);
                snapshot = whole.snapshot().unwrap();
                records.clear();
            }
        }
        let mut uninterrupted = aggregator(Totaliser);
        for second in 0..60_i64 {
            let value = (second % 7 != 3).then_some(second * second);
            push(&mut uninterrupted, second * 1_000 + second * 13, value);
            if second % 8 == 7 {
                tables(&mut uninterrupted, second * 1_000 + 900);
            }
        }
        assert_eq!(
            tables(&mut whole, 100_000),
            tables(&mut uninterrupted, 100_000),
            "killed at {kill_at} s"
        );
    }
}

fn decoded(cut: &Cut) -> Vec<Table> {
    let (codec, payload) = cut.encode().unwrap();
    decode(codec, &payload).unwrap()
}
