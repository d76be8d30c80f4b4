//! A group that goes on elsewhere, since the clock was set.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use edgeagg_core::aggregator::{Aggregator, GroupShape};
use edgeagg_core::codec::{decode, CODEC_DELTA};
use edgeagg_core::demand::DemandShape;
use edgeagg_core::error::Error;
use edgeagg_core::reading::{Gap, Row};
use edgeagg_core::table::TableKind;
use edgeagg_core::totaliser::Guard;
use edgeagg_core::window::PointKind;

const YEARS_MS: i64 = 315_360_000_000;

fn aggregator() -> Aggregator {
    let shape = GroupShape::new(1_000, vec![PointKind::Gauge, PointKind::Totaliser]).unwrap();
    Aggregator::new(vec![shape], &[5_000]).unwrap()
}

fn row(due_ms: i64) -> Row {
    Row {
        due_ms,
        at_ms: due_ms + 10,
        values: vec![Some(7), Some(due_ms / 1_000)],
        qualities: vec![0, 0],
    }
}

/// Due times and window starts, in the order in which they come.
fn told(aggregator: &mut Aggregator, now_ms: i64) -> (Vec<i64>, Vec<i64>) {
    let (mut due, mut starts) = (Vec::new(), Vec::new());
    while let Some(cut) = aggregator.cut(now_ms) {
        for table in decode(CODEC_DELTA, &cut.encode_as(CODEC_DELTA).unwrap()).unwrap() {
            let to = match table.kind() {
                TableKind::Readings => &mut due,
                TableKind::Windows => &mut starts,
                _ => continue,
            };
            to.extend(table.columns()[0].iter().flatten());
        }
    }
    (due, starts)
}

#[test]
fn slots_before_the_last_one_are_refused_until_the_group_is_restarted() {
    let mut aggregator = aggregator();
    aggregator.push_row(0, row(YEARS_MS)).unwrap();
    assert!(aggregator.push_row(0, row(20_000)).is_err());
    aggregator.restart_group(0, 19_000).unwrap();
    assert_eq!(aggregator.last_due_ms(0).unwrap(), Some(19_000));
    assert!(aggregator.push_row(0, row(19_000)).is_err());
    aggregator.push_row(0, row(20_000)).unwrap();
    let (due, starts) = told(&mut aggregator, 60_000);
    assert_eq!(due, [YEARS_MS, 20_000]);
    assert_eq!(starts, [YEARS_MS, 20_000]);
}

#[test]
fn a_replayed_restart_gives_the_same_bytes_and_none_is_forgotten() {
    let mut first = aggregator();
    let mut records = vec![first.push_row(0, row(YEARS_MS)).unwrap()];
    records.push(first.restart_group(0, 19_000).unwrap());
    for due_ms in [21_000, 22_000, 23_000] {
        records.push(first.push_row(0, row(due_ms)).unwrap());
    }
    let mut second = aggregator();
    for record in &records {
        second.replay(record).unwrap();
    }
    let payload = |it: &mut Aggregator| it.cut(90_000).unwrap().encode().unwrap();
    assert_eq!(payload(&mut first), payload(&mut second));
    assert_eq!(first.snapshot().unwrap(), second.snapshot().unwrap());
}

#[test]
fn no_energy_is_counted_over_a_restart_and_a_gap_behind_it_is_taken_in() {
    let mut aggregator = aggregator();
    aggregator.push_row(0, row(YEARS_MS)).unwrap();
    aggregator.restart_group(0, 0).unwrap();
    let gap = Gap {
        first_due_ms: 1_000,
        last_due_ms: 19_000,
        slots: 19,
        reason: 5,
    };
    aggregator.push_gap(0, gap).unwrap();
    for due_ms in (20_000..30_000).step_by(1_000) {
        aggregator.push_row(0, row(due_ms)).unwrap();
    }
    let cut = aggregator.cut(90_000).unwrap();
    assert_eq!(cut.counts.missed, 2 * 19);
    for table in decode(CODEC_DELTA, &cut.encode_as(CODEC_DELTA).unwrap()).unwrap() {
        if table.kind() == TableKind::Windows {
            // the one of the wrong time, the one that begins behind the restart, a whole one
            assert_eq!(table.rows(), 3);
        }
    }
}

#[test]
fn an_unknown_group_cannot_be_restarted() {
    assert!(aggregator().restart_group(1, 0).is_err());
}

#[test]
fn behind_a_restart_all_is_as_if_nothing_had_been_before() {
    let guard = Guard::new(None, 3_600_000, 1).unwrap();
    let kinds = vec![
        PointKind::Gauge,
        PointKind::Totaliser,
        PointKind::Guarded(guard),
    ];
    let shape = GroupShape::new(1_000, kinds).unwrap();
    let new = || Aggregator::new(vec![shape.clone()], &[5_000]).unwrap();
    let read = |due_ms: i64, value: i64| Row {
        due_ms,
        at_ms: due_ms + 10,
        values: vec![Some(value), Some(value), Some(value)],
        qualities: vec![0; 3],
    };
    let behind = |aggregator: &mut Aggregator| {
        for due_ms in (6_000..30_000).step_by(1_000) {
            aggregator
                .push_row(0, read(due_ms, due_ms / 1_000))
                .unwrap();
        }
        let mut found = Vec::new();
        while let Some(cut) = aggregator.cut(90_000) {
            for table in decode(CODEC_DELTA, &cut.encode_as(CODEC_DELTA).unwrap()).unwrap() {
                if table.kind() == TableKind::Windows {
                    found.push(table.columns().to_vec());
                }
                assert_ne!(table.kind(), TableKind::Audits, "nothing is bridged");
            }
        }
        found
    };
    let mut restarted = new();
    for due_ms in [1_000, 2_000, 3_000, 4_000] {
        restarted.push_row(0, read(due_ms, 9_000 + due_ms)).unwrap();
    }
    restarted.restart_group(0, 5_000).unwrap();
    while restarted.cut(5_000).is_some() {}
    assert_eq!(behind(&mut restarted), behind(&mut new()));
}

#[test]
fn no_demand_is_counted_over_a_restart() {
    // China's midnight
    const MIDNIGHT_MS: i64 = 57_600_000;
    let shape = GroupShape::new(1_000, vec![PointKind::Totaliser]).unwrap();
    let demand = DemandShape::new(60_000, 60_000).unwrap();
    let shape = shape.with_demands(&[(0, demand)]).unwrap();
    let new = || Aggregator::new(vec![shape.clone()], &[]).unwrap();
    let read = |due_ms: i64, value: i64| Row {
        due_ms,
        at_ms: due_ms,
        values: vec![Some(value)],
        qualities: vec![0],
    };
    let behind = |aggregator: &mut Aggregator| {
        for second in 1..=180 {
            let row = read(MIDNIGHT_MS + second * 1_000, 9_000 + second);
            aggregator.push_row(0, row).unwrap();
        }
        let mut found = Vec::new();
        while let Some(cut) = aggregator.cut(MIDNIGHT_MS + 86_500_000) {
            for table in decode(CODEC_DELTA, &cut.encode_as(CODEC_DELTA).unwrap()).unwrap() {
                if table.kind() == TableKind::Demands {
                    found.push(table.columns().to_vec());
                }
            }
        }
        found
    };
    let wanted = behind(&mut new());
    assert!(!wanted.is_empty());
    for ahead_ms in [0, YEARS_MS] {
        let mut restarted = new();
        for second in -120..0 {
            let due_ms = MIDNIGHT_MS + ahead_ms + second * 1_000;
            restarted.push_row(0, read(due_ms, 120 + second)).unwrap();
        }
        restarted.restart_group(0, MIDNIGHT_MS).unwrap();
        while restarted.cut(MIDNIGHT_MS).is_some() {}
        assert_eq!(behind(&mut restarted), wanted);
    }
}

#[test]
fn a_snapshot_of_an_open_window_without_rows_is_refused() {
    const ROWS: u8 = 3;
    let shape = GroupShape::new(1_000, vec![PointKind::Gauge]).unwrap();
    let shape = shape.with_statistics(&[0]).unwrap();
    let new = || Aggregator::new(vec![shape.clone()], &[5_000]).unwrap();
    let read = |due_ms: i64| Row {
        due_ms,
        at_ms: due_ms,
        values: vec![Some(1_000)],
        qualities: vec![0],
    };
    let mut aggregator = new();
    for due_ms in [6_000, 7_000, 8_000] {
        aggregator.push_row(0, read(due_ms)).unwrap();
    }
    while aggregator.cut(8_000).is_some() {}
    let snapshot = aggregator.snapshot().unwrap();
    // behind the number of rows is what they came to
    let places = (0..snapshot.len()).filter(|&at| snapshot[at] == ROWS);
    let cut_off = places.map(|at| [&snapshot[..at], &[0]].concat());
    let restored: Vec<_> = cut_off.map(|it| new().restore(&it)).collect();
    let open = |it: &Result<(), Error>| matches!(it, Err(Error::Corrupt { what, .. }) if *what == "open window");
    assert!(restored.iter().any(open), "{restored:?}");
}

#[test]
fn a_restore_forgets_what_was_taken_in_before() {
    let guard = Guard::new(None, 1_000_000, 1).unwrap();
    let kinds = vec![PointKind::Gauge, PointKind::Guarded(guard)];
    let shape = GroupShape::new(1_000, kinds).unwrap();
    let new = || Aggregator::new(vec![shape.clone()], &[5_000]).unwrap();
    let push = |aggregator: &mut Aggregator, seconds: std::ops::Range<i64>| {
        for second in seconds {
            let row = Row {
                due_ms: second * 1_000,
                at_ms: second * 1_000,
                values: vec![Some(7), Some(second)],
                qualities: vec![0; 2],
            };
            aggregator.push_row(0, row).unwrap();
        }
    };
    let told = |aggregator: &mut Aggregator| -> Vec<_> {
        std::iter::from_fn(|| aggregator.cut(60_000)).collect()
    };
    let mut before = new();
    push(&mut before, 0..12);
    while before.cut(12_000).is_some() {}
    let snapshot = before.snapshot().unwrap();
    let mut used = new();
    push(&mut used, 0..7);
    while used.cut(7_000).is_some() {}
    push(&mut used, 7..30);
    let mut unused = new();
    for restored in [&mut used, &mut unused] {
        restored.restore(&snapshot).unwrap();
        push(restored, 12..40);
    }
    assert_eq!(told(&mut used), told(&mut unused));
    assert_eq!(used.snapshot(), unused.snapshot());
}
