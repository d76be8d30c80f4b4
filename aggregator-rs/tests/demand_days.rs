//! The days of demand: where they begin and end, what they wait for, what a judged totaliser keeps
//! out of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use edgeagg_core::aggregator::{Aggregator, GroupShape};
use edgeagg_core::calendar::Calendar;
use edgeagg_core::codec::{decode, CODEC_DELTA};
use edgeagg_core::demand::DemandShape;
use edgeagg_core::reading::Row;
use edgeagg_core::table::TableKind;
use edgeagg_core::totaliser::Guard;
use edgeagg_core::window::PointKind::{self, Gauge, Guarded, Totaliser};
use edgeagg_core::window::LATENESS_MS;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
const PERIOD_MS: i64 = 15 * MINUTE_MS;

type DayRow = Vec<Option<i64>>;

fn row(at_ms: i64, value: Option<i64>) -> Row {
    Row {
        due_ms: at_ms,
        at_ms,
        values: vec![value],
        qualities: vec![u8::from(value.is_none())],
    }
}

fn aggregator(kind: PointKind, offsets: &[(i64, i64)]) -> Aggregator {
    let group = GroupShape::new(MINUTE_MS, vec![kind]).unwrap();
    let demand = DemandShape::new(PERIOD_MS, 5 * MINUTE_MS).unwrap();
    let group = group.with_demands(&[(0, demand)]).unwrap();
    let calendar = Calendar::new(offsets).unwrap();
    Aggregator::with_calendar(vec![group], &[], calendar).unwrap()
}

/// Push a reading of each minute of the range.
fn read(
    aggregator: &mut Aggregator,
    minutes: std::ops::RangeInclusive<i64>,
    value: impl Fn(i64) -> Option<i64>,
) {
    for minute in minutes {
        let row = row(minute * MINUTE_MS, value(minute));
        aggregator.push_row(0, row).unwrap();
    }
}

fn days(aggregator: &mut Aggregator, now_ms: i64) -> Vec<DayRow> {
    let mut rows = Vec::new();
    while let Some(cut) = aggregator.cut(now_ms) {
        let payload = cut.encode_as(CODEC_DELTA).unwrap();
        for table in decode(CODEC_DELTA, &payload).unwrap() {
            let cells = |at: usize| table.columns().iter().map(|it| it[at]).collect();
            if table.kind() == TableKind::Demands {
                rows.extend((0..table.rows()).map(cells));
            }
        }
    }
    rows
}

/// Offsets of Berlin around both changes of 2026.
fn berlin() -> [(i64, i64); 3] {
    let spring_ms = 1_774_746_000_000; // 2026-03-29 01:00 UTC
    let autumn_ms = 1_792_890_000_000; // 2026-10-25 01:00 UTC
    [(0, HOUR_MS), (spring_ms, 2 * HOUR_MS), (autumn_ms, HOUR_MS)]
}

#[test]
fn days_are_23_and_25_hours_long_where_the_clock_is_changed() {
    for (change, hours) in [(1, 23), (2, 25)] {
        let (changed_ms, _) = berlin()[change];
        let midnight_ms = changed_ms - if change == 1 { 2 } else { 3 } * HOUR_MS;
        for kind in [Totaliser, Gauge] {
            let mut aggregator = aggregator(kind, &berlin());
            let first = midnight_ms / MINUTE_MS;
            // 60 Wh a minute, or 60 W; ten times that in the last five minutes of the day
            let last = first + hours * 60;
            let peak = |minute: i64| (minute - (last - 5)).clamp(0, 5) * 540;
            read(
                &mut aggregator,
                first - 60..=last + 60,
                |minute| match kind {
                    Gauge => Some(if (last - 5..last).contains(&minute) {
                        600
                    } else {
                        60
                    }),
                    _ => Some((minute - first + 60) * 60 + peak(minute)),
                },
            );
            let days = days(&mut aggregator, (last + 61) * MINUTE_MS);
            let end_ms = last * MINUTE_MS;
            // a third of 600 and two of 60, ending with the day: as power of energy per hour too
            let highest = match kind {
                Gauge => 240_000,
                _ => (10 * 60 + 5 * 600) * 4,
            };
            assert_eq!(days.len(), 2, "{kind:?}");
            let told = [
                0,
                midnight_ms,
                hours * HOUR_MS,
                highest,
                end_ms,
                highest,
                end_ms,
                hours * 4,
            ];
            assert_eq!(days[1], told.map(Some), "{kind:?}");
            assert_eq!(
                days[0][7],
                Some(4),
                "{kind:?}: the hour before, with its last period"
            );
        }
    }
}

#[test]
fn a_period_across_midnight_belongs_to_the_day_in_which_it_ends() {
    let mut aggregator = aggregator(Totaliser, &[(0, 0)]);
    // the only energy is counted from 23:53 to 00:00
    let midnight = 24 * 60;
    read(&mut aggregator, midnight - 60..=midnight + 60, |minute| {
        Some((minute - midnight + 7).clamp(0, 7) * 100)
    });
    let days = days(&mut aggregator, 3 * DAY_MS);
    let midnight_ms = midnight * MINUTE_MS;
    assert_eq!(
        days[0][3..7],
        [2_800, midnight_ms, 2_800, midnight_ms].map(Some)
    );
    // of the next day's periods, the one that ends at 00:05 holds all of it, 00:10 the last five
    let sliding_ms = midnight_ms + 5 * MINUTE_MS;
    assert_eq!(
        days[1][3..7],
        [0, midnight_ms + PERIOD_MS, 2_800, sliding_ms].map(Some)
    );
}

#[test]
fn a_day_closes_when_its_last_period_is_known_or_waits_no_longer_than_a_window() {
    let end = 24 * 60;
    let bridge_min = 3;
    // read to 23:59 and once more: at midnight, a bridge later, too late
    for (next, close_min) in [(end, end), (end + 2, end + 2), (end + 30, end + bridge_min)] {
        let mut aggregator = aggregator(Totaliser, &[(0, 0)]);
        read(&mut aggregator, end - 30..=end - 1, Some);
        for minute in end..end + 10 {
            let now_ms = minute * MINUTE_MS + LATENESS_MS;
            if minute == next {
                // at midnight itself a reading settles what ended by the step that leads to it
                read(&mut aggregator, minute..=minute, Some);
            }
            let before = days(&mut aggregator, minute * MINUTE_MS + LATENESS_MS - 1);
            assert!(
                minute == next || before.is_empty(),
                "minute {minute}, next {next}"
            );
            let closed = before.len() + days(&mut aggregator, now_ms).len();
            assert_eq!(
                closed,
                usize::from(minute == close_min),
                "minute {minute}, next {next}"
            );
        }
    }
}

#[test]
fn a_gauges_day_closes_with_the_lateness() {
    let mut aggregator = aggregator(Gauge, &[(0, 0)]);
    read(&mut aggregator, 24 * 60 - 30..=24 * 60 - 1, |_| Some(5));
    assert!(days(&mut aggregator, DAY_MS + LATENESS_MS - 1).is_empty());
    let days = days(&mut aggregator, DAY_MS + LATENESS_MS);
    // the last reading stands over the end of the day
    assert_eq!(
        days[0][3..],
        [5_000, DAY_MS - PERIOD_MS, 5_000, DAY_MS - PERIOD_MS, 2].map(Some)
    );
}

#[test]
fn a_day_without_a_good_reading_has_a_row_and_one_without_a_row_has_none() {
    for kind in [Totaliser, Gauge] {
        let mut aggregator = aggregator(kind, &[(0, 0)]);
        read(&mut aggregator, 600..=700, |_| None);
        read(&mut aggregator, 2 * 1_440..=2 * 1_440 + 60, |_| Some(7));
        let days = days(&mut aggregator, 9 * DAY_MS);
        assert_eq!(days.len(), 2, "{kind:?}");
        assert_eq!(
            days[0],
            [
                Some(0),
                Some(0),
                Some(DAY_MS),
                None,
                None,
                None,
                None,
                Some(0)
            ]
        );
        assert_eq!((days[1][1], days[1][7]), (Some(2 * DAY_MS), Some(4)));
    }
}

#[test]
fn the_first_of_equal_maxima_counts() {
    let mut aggregator = aggregator(Totaliser, &[(0, 0)]);
    read(&mut aggregator, 0..=120, Some);
    let days = days(&mut aggregator, 9 * DAY_MS);
    assert_eq!(days[0][3..], [60, PERIOD_MS, 60, PERIOD_MS, 8].map(Some));
}

/// 0.5 kWh a minute in steps of 0.01 kWh, behind 100 kW at most, six digits and two decimals.
fn guarded() -> PointKind {
    Guarded(Guard::new(Some(100_000_000), 10_000, 1).unwrap())
}

#[test]
fn no_rollover_reset_dip_or_glitch_is_a_demand() {
    let wraps_at = 100_000_000;
    let truth = |minute: i64| 99_970_000 + 50 * minute; // rolls over at minute 600
    let power = 50 * 60;
    let shown = |minute: i64| match minute {
        200..210 => 0,     // a dip
        300 => 77_777_777, // a glitch
        ..600 => truth(minute),
        600..800 => truth(minute) - wraps_at,
        _ => 5 + 50 * (minute - 800), // a reset
    };
    let mut judged = aggregator(guarded(), &[(0, 0)]);
    let mut raw = aggregator(Totaliser, &[(0, 0)]);
    for each in [&mut judged, &mut raw] {
        read(each, 0..=1_439, |minute| Some(shown(minute)));
    }
    let judged = &days(&mut judged, 9 * DAY_MS)[0];
    assert_eq!(judged[3..7], [power, PERIOD_MS, power, PERIOD_MS].map(Some));
    // only the block with the reset counts less: what was lost there is not known
    assert_eq!(judged[7], Some(95));
    let raw = &days(&mut raw, 9 * DAY_MS)[0];
    assert!(raw[5] > Some(power) && raw[7] < Some(95), "{raw:?}");
}

#[test]
fn a_day_waits_for_the_verdict_and_no_longer() {
    let end = 24 * 60;
    // in doubt from two minutes before midnight on; the old line is back at `back`
    for (back, known) in [(end + 10, true), (end + 100, false)] {
        let mut aggregator = aggregator(guarded(), &[(0, 0)]);
        let mut found = Vec::new();
        for minute in end - 60..end + 120 {
            let is_in_doubt = (end - 2..back).contains(&minute);
            // nonsense that makes no line, so that nothing settles it
            let shown = if is_in_doubt { -5 } else { 1_000 + 50 * minute };
            read(&mut aggregator, minute..=minute, |_| Some(shown));
            let closed = days(&mut aggregator, minute * MINUTE_MS + LATENESS_MS);
            found.extend(closed.into_iter().map(|day| (minute, day)));
        }
        let (closed_min, day) = &found[0];
        // three minutes of bridge and twenty of doubt
        let latest = end + 23;
        assert_eq!(*closed_min, back.min(latest), "back at {back}");
        assert_eq!(day[7], Some(3 + i64::from(known)), "back at {back}");
    }
}

#[test]
fn a_leap_of_the_clock_by_years_takes_no_time() {
    for kind in [Totaliser, Gauge, guarded()] {
        let mut aggregator = aggregator(kind, &berlin());
        let leaps = [0, 1 << 60, i64::MIN, i64::MAX, 3, -1];
        for (due_ms, at_ms) in (0..).zip(leaps) {
            let row = Row {
                due_ms,
                ..row(at_ms, Some(due_ms))
            };
            aggregator.push_row(0, row).unwrap();
            days(&mut aggregator, at_ms / 2);
        }
        let snapshot = aggregator.snapshot();
        assert!(snapshot.is_ok_and(|it| aggregator.restore(&it).is_ok()));
    }
}

#[test]
fn a_demand_that_no_meter_keeps_cannot_be_made() {
    for (period_ms, slip_ms) in [
        (0, 1),
        (PERIOD_MS, 0),
        (PERIOD_MS, -MINUTE_MS),
        (PERIOD_MS, 7 * MINUTE_MS),
        (7 * MINUTE_MS, MINUTE_MS),
        (PERIOD_MS, 1_000),
        (2 * HOUR_MS, HOUR_MS),
    ] {
        assert!(DemandShape::new(period_ms, slip_ms).is_err());
    }
    let group = || GroupShape::new(MINUTE_MS, vec![Gauge]).unwrap();
    let minutely = DemandShape::new(PERIOD_MS, MINUTE_MS).unwrap();
    assert!(group().with_demands(&[(1, minutely)]).is_err());
    assert!(group()
        .with_demands(&[(0, minutely), (0, minutely)])
        .is_err());
    let slow = GroupShape::new(MINUTE_MS + 1, vec![Gauge]).unwrap();
    assert!(slow.with_demands(&[(0, minutely)]).is_err());
    assert!(group().with_demands(&[(0, minutely)]).is_ok());
}

#[test]
fn a_damaged_snapshot_is_an_error_and_no_panic() {
    for kind in [Totaliser, Gauge, guarded()] {
        let mut source = aggregator(kind, &[(0, 0)]);
        read(&mut source, 0..=100, Some);
        days(&mut source, 100 * MINUTE_MS);
        let snapshot = source.snapshot().unwrap();
        for length in 0..snapshot.len() {
            let mut target = aggregator(kind, &[(0, 0)]);
            assert!(
                target.restore(&snapshot[..length]).is_err(),
                "{length} bytes"
            );
        }
        for at in 0..snapshot.len() {
            let mut damaged = snapshot.clone();
            damaged[at] ^= 0x55;
            let mut target = aggregator(kind, &[(0, 0)]);
            let _ = target.restore(&damaged);
        }
    }
}

#[test]
fn a_row_that_comes_after_its_day_was_closed_opens_none() {
    for kind in [Totaliser, Gauge] {
        let mut aggregator = aggregator(kind, &[(0, 0)]);
        read(&mut aggregator, 1_400..=1_430, Some);
        assert_eq!(days(&mut aggregator, 2 * DAY_MS).len(), 1);
        let late = Row {
            due_ms: DAY_MS,
            ..row(DAY_MS - MINUTE_MS, Some(2_000))
        };
        aggregator.push_row(0, late).unwrap();
        assert!(days(&mut aggregator, 9 * DAY_MS).is_empty(), "{kind:?}");
    }
}

#[test]
fn a_fall_before_a_long_silence_spoils_nothing_behind_it() {
    let mut aggregator = aggregator(Totaliser, &[(0, 0)]);
    // it falls right at the end of a period, and is not read again for hours
    read(&mut aggregator, 0..=14, |minute| Some(100 + minute));
    read(&mut aggregator, 15..=15, |_| Some(5));
    read(&mut aggregator, 300..=330, Some);
    // from 300 to 315 and from 315 to 330
    assert_eq!(days(&mut aggregator, 9 * DAY_MS)[0][7], Some(2));
}

#[test]
fn two_readings_of_one_moment_leave_its_total_to_the_next_step() {
    let mut aggregator = aggregator(Totaliser, &[(0, 0)]);
    // 20 minutes of silence end at 60, where the meter is read twice
    read(&mut aggregator, 30..=40, Some);
    read(&mut aggregator, 60..=60, Some);
    let twice = Row {
        due_ms: 60 * MINUTE_MS + 1,
        ..row(60 * MINUTE_MS, Some(60))
    };
    aggregator.push_row(0, twice).unwrap();
    read(&mut aggregator, 61..=75, Some);
    assert_eq!(days(&mut aggregator, 9 * DAY_MS)[0][7], Some(1));
}

/// Push readings with their times, in slots of their own from `first_due_ms` on.
fn read_at(aggregator: &mut Aggregator, first_due_ms: i64, readings: &[(i64, Option<i64>)]) {
    for (due_ms, &(at_ms, value)) in (first_due_ms..).zip(readings) {
        let row = Row {
            due_ms,
            ..row(at_ms, value)
        };
        aggregator.push_row(0, row).unwrap();
    }
}

#[test]
fn a_period_of_a_day_without_a_row_of_its_own_counts_in_no_other() {
    let mut aggregator = aggregator(Totaliser, &[(0, 0)]);
    read(&mut aggregator, 1_410..=1_439, Some);
    // a failed reading by a clock that is days ahead leaves no room for the day behind midnight
    let mut readings = vec![(5 * DAY_MS, None)];
    readings.extend((0..=30).map(|it| (DAY_MS + it * MINUTE_MS, Some(1_440 + 100 * it))));
    read_at(&mut aggregator, 1_440 * MINUTE_MS, &readings);
    let days = days(&mut aggregator, 9 * DAY_MS);
    assert_eq!(days.len(), 2);
    let end_ms = DAY_MS - PERIOD_MS;
    assert_eq!(days[0][3..], [60, end_ms, 60, end_ms, 2].map(Some));
    assert_eq!((days[1][1], days[1][7]), (Some(5 * DAY_MS), Some(0)));
}

#[test]
fn a_second_fall_behind_a_clock_set_back_does_not_clear_the_first() {
    let mut aggregator = aggregator(Totaliser, &[(0, 0)]);
    read(&mut aggregator, 0..=14, |minute| Some(1_000 + minute));
    // it falls with the reading at the end of a period, and again half a minute before it
    let mut readings = vec![(15 * MINUTE_MS, Some(500)), (29 * MINUTE_MS / 2, Some(5))];
    readings.extend((16..=45).map(|minute| (minute * MINUTE_MS, Some(minute))));
    read_at(&mut aggregator, 15 * MINUTE_MS, &readings);
    // of the blocks only the one from 30 to 45 is known
    assert_eq!(days(&mut aggregator, 9 * DAY_MS)[0][7], Some(1));
}

#[test]
fn a_gauges_time_that_has_passed_is_not_weighed_again_when_the_clock_is_set_back() {
    let mut aggregator = aggregator(Gauge, &[(0, 0)]);
    read(&mut aggregator, 0..=10, |_| Some(6));
    let again: Vec<_> = (5..=30).map(|it| (it * MINUTE_MS, Some(6))).collect();
    read_at(&mut aggregator, 11 * MINUTE_MS, &again);
    assert_eq!(
        days(&mut aggregator, 9 * DAY_MS)[0][3..],
        [6_000, PERIOD_MS, 6_000, PERIOD_MS, 2].map(Some)
    );
}

#[test]
fn slips_on_both_sides_of_a_silence_are_no_period_though_both_are_whole() {
    let mut aggregator = aggregator(Gauge, &[(0, 0)]);
    // what is read at minute 8 stands to the end of a slip, and the next reading begins another
    read(&mut aggregator, 0..=8, |_| Some(9));
    read(&mut aggregator, 20..=45, |_| Some(1));
    let (block_ms, sliding_ms) = (45 * MINUTE_MS, 35 * MINUTE_MS);
    assert_eq!(
        days(&mut aggregator, 9 * DAY_MS)[0][3..],
        [1_000, block_ms, 1_000, sliding_ms, 1].map(Some)
    );
}
