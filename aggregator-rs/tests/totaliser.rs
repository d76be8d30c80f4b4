//! What totalisers of real meters do wrong, as numbers: a meter that counts 0.5 kWh a minute is read
//! every minute in steps of 0.01 kWh; its windows of 15 minutes hold 7.50 kWh each.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use edgeagg_core::aggregator::{Aggregator, Cut, GroupShape};
use edgeagg_core::calendar::Calendar;
use edgeagg_core::codec::{decode, encode_as, CODEC_CM, CODEC_DELTA, CODEC_PLAIN};
use edgeagg_core::reading::Row;
use edgeagg_core::table::{Table, TableKind};
use edgeagg_core::totaliser::{AuditKind, Guard, RUN_MAX};
use edgeagg_core::window::PointKind;

const MINUTE_MS: i64 = 60_000;
const WINDOW_MIN: i64 = 15;
const PER_MINUTE: i64 = 50;
const PER_WINDOW: i64 = WINDOW_MIN * PER_MINUTE;
const START: i64 = 12_345_600;
const ENERGY: usize = 7;

/// A counter of six digits and two decimals behind 100 kW at most.
fn guard() -> Guard {
    Guard::new(Some(100_000_000), 10_000, 1).unwrap()
}

fn aggregator(guard: Guard) -> Aggregator {
    let shape = GroupShape::new(MINUTE_MS, vec![PointKind::Guarded(guard)]).unwrap();
    Aggregator::new(vec![shape], &[WINDOW_MIN * MINUTE_MS]).unwrap()
}

fn push(aggregator: &mut Aggregator, minute: i64, value: Option<i64>) {
    let at_ms = minute * MINUTE_MS;
    let row = Row {
        due_ms: at_ms,
        at_ms,
        values: vec![value],
        qualities: vec![u8::from(value.is_none())],
    };
    aggregator.push_row(0, row).unwrap();
}

fn truth(minute: i64) -> i64 {
    START + PER_MINUTE * minute
}

/// An audit as minutes and mantissas.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    kind: i64,
    closing: (i64, i64),
    opening: (i64, i64),
    energy: i64,
    doubted: i64,
    extreme: Option<i64>,
}

fn told(
    kind: AuditKind,
    closing: (i64, i64),
    opening: (i64, i64),
    energy: i64,
    (doubted, extreme): (i64, Option<i64>),
) -> Told {
    Told {
        kind: kind as i64,
        closing,
        opening,
        energy,
        doubted,
        extreme,
    }
}

#[derive(Default)]
struct Story {
    energies: Vec<Option<i64>>,
    uncertainties: Vec<Option<i64>>,
    audits: Vec<Told>,
}

impl Story {
    fn collect(&mut self, aggregator: &mut Aggregator, now_min: i64) {
        while let Some(cut) = aggregator.cut(now_min * MINUTE_MS) {
            for table in decoded(&cut) {
                self.take(&table);
            }
        }
    }

    fn take(&mut self, table: &Table) {
        let columns = table.columns();
        let rows = (0..table.rows()).map(|row| move |column: usize| columns[column][row]);
        match table.kind() {
            TableKind::Windows => self.energies.extend(rows.map(|cell| cell(1 + ENERGY))),
            TableKind::Uncertainties => self.uncertainties.extend(rows.map(|cell| cell(2))),
            TableKind::Audits => self.audits.extend(rows.map(|cell| {
                assert_eq!(cell(0), Some(0));
                let at = |time: usize| (cell(time).unwrap() / MINUTE_MS, cell(time + 1).unwrap());
                Told {
                    kind: cell(1).unwrap(),
                    closing: at(2),
                    opening: at(4),
                    energy: cell(6).unwrap(),
                    doubted: cell(7).unwrap(),
                    extreme: cell(8),
                }
            })),
            TableKind::Readings | TableKind::Gaps | TableKind::Statistics | TableKind::Demands => {}
        }
    }
}

/// Read `shown` each minute from 0 to `minutes`, cut each minute.
fn story(guard: Guard, minutes: i64, shown: impl Fn(i64) -> Option<i64>) -> Story {
    let mut aggregator = aggregator(guard);
    let mut story = Story::default();
    for minute in 0..=minutes {
        push(&mut aggregator, minute, shown(minute));
        story.collect(&mut aggregator, minute);
    }
    story.collect(&mut aggregator, minutes + 100_000);
    // the last window is not over
    story.energies.pop();
    story
}

#[test]
fn what_a_meter_shows_for_a_while_by_mistake_changes_no_energy() {
    let percent = |minute, permille: i64| truth(minute) * (1_000 - permille) / 1_000;
    let before = truth(31);
    let cases = [
        ("huge", 1_832_278_249_396_618_000, 14, AuditKind::Glitch),
        ("zeros", 0, 15, AuditKind::Dip),
        ("below zero", -1, 14, AuditKind::Glitch),
        ("near zero", 1, 16, AuditKind::Dip),
        ("436 less", before - 43_600, 1, AuditKind::Dip),
        ("4688 less", before - 468_800, 3, AuditKind::Dip),
        ("1000 less", before - 100_000, 2, AuditKind::Dip),
        ("100 less", before - 10_000, 2, AuditKind::Dip),
        ("2.2 % less", percent(31, 22), 4, AuditKind::Dip),
        ("11.1 % less", percent(31, 111), 19, AuditKind::Dip),
        ("27.2 % less", percent(31, 272), 9, AuditKind::Dip),
        ("a jump and back", before + 670_400, 19, AuditKind::Glitch),
    ];
    for (name, value, minutes, kind) in cases {
        let wrong = 31..31 + minutes;
        let back = wrong.end;
        let story = story(guard(), 105, |minute| {
            Some(if wrong.contains(&minute) {
                value
            } else {
                truth(minute)
            })
        });
        assert_eq!(story.energies, [Some(PER_WINDOW); 7], "{name}");
        let audit = told(
            kind,
            (30, truth(30)),
            (back, truth(back)),
            (minutes + 1) * PER_MINUTE,
            (minutes, Some(value)),
        );
        assert_eq!(story.audits, [audit], "{name}");
    }
}

#[test]
fn the_evidence_for_a_mistake_is_what_lay_furthest_from_the_line() {
    for wrong in [[0, 20_000_000], [20_000_000, 0]] {
        let story = story(guard(), 60, |minute| {
            Some(match minute {
                31 => wrong[0],
                32 => wrong[1],
                _ => truth(minute),
            })
        });
        let dip = told(
            AuditKind::Dip,
            (30, truth(30)),
            (33, truth(33)),
            3 * PER_MINUTE,
            (2, Some(0)),
        );
        assert_eq!(story.audits, [dip]);
    }
}

#[test]
fn a_meter_nobody_could_read_for_six_hours_tells_the_energy_between() {
    let silent = 20..20 + 375;
    let story = story(guard(), 435, |minute| {
        (!silent.contains(&minute)).then(|| truth(minute))
    });
    assert_eq!(story.energies[0], Some(PER_WINDOW));
    assert_eq!(story.energies[1..27], [None; 26]);
    assert_eq!(story.energies[27..], [Some(PER_WINDOW); 2]);
    let gap = told(
        AuditKind::Gap,
        (19, truth(19)),
        (395, truth(395)),
        376 * PER_MINUTE,
        (0, None),
    );
    assert_eq!(story.audits, [gap]);
}

#[test]
fn a_counter_of_six_digits_goes_on_from_zero() {
    // 36 kWh a minute, from 999984 to 20
    let guard = Guard::new(Some(100_000_000), 360_000, 1).unwrap();
    let shown = |minute| (99_998_400 + 3_600 * (minute - 37)) % 100_000_000;
    let story = story(guard, 90, |minute| Some(shown(minute)));
    assert_eq!(story.energies, [Some(15 * 3_600); 6]);
    let rollover = told(
        AuditKind::Rollover,
        (37, 99_998_400),
        (38, 2_000),
        3_600,
        (0, None),
    );
    assert_eq!(story.audits, [rollover]);
}

#[test]
fn a_number_with_one_digit_more_than_the_counter_has_is_no_reading_of_it() {
    let start = 100_000_000 - 40 * PER_MINUTE;
    let story = story(guard(), 90, |minute| {
        let counted = start + PER_MINUTE * minute;
        Some(if minute == 40 {
            counted
        } else {
            counted % 100_000_000
        })
    });
    assert_eq!(story.energies, [Some(PER_WINDOW); 6]);
    let rollover = told(
        AuditKind::Rollover,
        (39, 100_000_000 - PER_MINUTE),
        (41, PER_MINUTE),
        2 * PER_MINUTE,
        (1, Some(100_000_000)),
    );
    assert_eq!(story.audits, [rollover]);
}

#[test]
fn a_meter_read_many_times_a_second_is_in_doubt_for_so_many_readings_only() {
    let kinds = vec![PointKind::Guarded(guard())];
    let shape = GroupShape::new(100, kinds).unwrap();
    let mut aggregator = Aggregator::new(vec![shape], &[]).unwrap();
    let mut story = Story::default();
    let mut push = |aggregator: &mut Aggregator, tick: i64, value| {
        let row = Row {
            due_ms: tick * 100,
            at_ms: tick * 100,
            values: vec![Some(value)],
            qualities: vec![0],
        };
        aggregator.push_row(0, row).unwrap();
        story.collect(aggregator, 0);
        story.audits.len()
    };
    assert_eq!(push(&mut aggregator, 0, START), 0);
    for tick in 1..=RUN_MAX as i64 {
        assert_eq!(push(&mut aggregator, tick, 7), 0);
    }
    assert_eq!(push(&mut aggregator, RUN_MAX as i64 + 1, 7), 1);
}

#[test]
fn a_meter_read_every_hour_may_be_mistaken_twice_in_a_row() {
    let hour_ms = 60 * MINUTE_MS;
    let kinds = vec![PointKind::Guarded(guard())];
    let shape = GroupShape::new(hour_ms, kinds).unwrap();
    let utc = Calendar::new(&[(0, 0)]).unwrap();
    let mut aggregator = Aggregator::with_calendar(vec![shape], &[6 * hour_ms], utc).unwrap();
    let mut story = Story::default();
    for hour in 0..=12 {
        let wrong = (3..=4).contains(&hour);
        let value = if wrong { 0 } else { truth(60 * hour) };
        push(&mut aggregator, 60 * hour, Some(value));
    }
    story.collect(&mut aggregator, 100_000);
    assert_eq!(story.energies[..2], [Some(6 * 60 * PER_MINUTE); 2]);
    let dip = told(
        AuditKind::Dip,
        (120, truth(120)),
        (300, truth(300)),
        180 * PER_MINUTE,
        (2, Some(0)),
    );
    assert_eq!(story.audits, [dip]);
}

#[test]
fn a_replaced_meter_that_first_shows_nonsense_begins_where_it_makes_sense() {
    let mut aggregator = aggregator(guard());
    let mut story = Story::default();
    for (minute, value) in [(0, 500), (1, 550), (2, -1), (3, 20), (4, 70)] {
        if minute == 2 {
            aggregator.replace_meter(0).unwrap();
        }
        push(&mut aggregator, minute, Some(value));
    }
    story.collect(&mut aggregator, 100);
    let replaced = told(AuditKind::Replaced, (1, 550), (3, 20), 0, (0, None));
    assert_eq!(story.audits, [replaced]);
}

#[test]
fn a_counter_that_starts_anew_counts_nothing_for_the_minute_nobody_knows() {
    let shown = |minute| {
        if minute < 40 {
            truth(minute)
        } else {
            PER_MINUTE * (minute - 40)
        }
    };
    let story = story(guard(), 90, |minute| Some(shown(minute)));
    let mut expected = [Some(PER_WINDOW); 6];
    expected[2] = Some(PER_WINDOW - PER_MINUTE);
    assert_eq!(story.energies, expected);
    let reset = told(AuditKind::Reset, (39, truth(39)), (40, 0), 0, (0, None));
    assert_eq!(story.audits, [reset]);
}

#[test]
fn a_counter_that_lost_ten_minutes_resumes_nothing_when_it_comes_by_its_old_value() {
    let story = story(guard(), 90, |minute| {
        Some(truth(if minute < 32 { minute } else { minute - 10 }))
    });
    let mut expected = [Some(PER_WINDOW); 6];
    expected[2] = Some(PER_WINDOW - PER_MINUTE);
    assert_eq!(story.energies, expected);
    let reset = told(
        AuditKind::Reset,
        (31, truth(31)),
        (32, truth(22)),
        0,
        (0, None),
    );
    assert_eq!(story.audits, [reset]);
}

#[test]
fn more_than_the_meter_can_count_is_no_energy() {
    let story = story(guard(), 90, |minute| {
        Some(truth(minute) + if minute < 50 { 0 } else { 670_400 })
    });
    let mut expected = [Some(PER_WINDOW); 6];
    expected[3] = Some(PER_WINDOW - PER_MINUTE);
    assert_eq!(story.energies, expected);
    let jump = told(
        AuditKind::Jump,
        (49, truth(49)),
        (50, truth(50) + 670_400),
        0,
        (0, None),
    );
    assert_eq!(story.audits, [jump]);
}

#[test]
fn what_a_frozen_counter_catches_up_with_is_counted_where_it_shows() {
    let story = story(guard(), 105, |minute| {
        Some(truth(if (50..60).contains(&minute) {
            50
        } else {
            minute
        }))
    });
    let mut expected = [Some(PER_WINDOW); 7];
    // it stood still from minute 50 to 59 and showed ten minutes' energy in the one behind
    expected[3] = Some(PER_WINDOW);
    assert_eq!(story.energies, expected);
    let freeze = told(
        AuditKind::Freeze,
        (59, truth(50)),
        (60, truth(60)),
        10 * PER_MINUTE,
        (0, None),
    );
    assert_eq!(story.audits, [freeze]);
}

#[test]
fn another_meter_begins_another_line_whether_its_readings_or_its_serial_number_come_first() {
    for told_at in [50, 52] {
        let mut aggregator = aggregator(guard());
        let mut story = Story::default();
        for minute in 0..=90 {
            if minute == told_at {
                aggregator.replace_meter(0).unwrap();
            }
            let shown = if minute < 40 {
                Some(truth(minute))
            } else {
                (minute >= 50).then_some(PER_MINUTE * (minute - 50))
            };
            push(&mut aggregator, minute, shown);
        }
        story.collect(&mut aggregator, 100_000);
        let full = Some(PER_WINDOW);
        assert_eq!(story.energies, [full, full, None, None, full, full, None]);
        let replaced = told(AuditKind::Replaced, (39, truth(39)), (50, 0), 0, (0, None));
        assert_eq!(story.audits, [replaced]);
    }
}

#[test]
fn a_coarse_counter_that_stands_still_between_its_steps_is_not_in_doubt() {
    let coarse = Guard::new(None, 10_000, 1_000).unwrap();
    let story = story(coarse, 90, |minute| Some(truth(minute) / 1_000 * 1_000));
    assert_eq!(story.audits, []);
    let total: i64 = story.energies.iter().flatten().sum();
    // interpolation moves energy between neighbours, none is lost but what the last step holds back
    assert!((truth(90) - truth(0) - total).abs() <= 1_000, "{total}");
}

#[test]
fn a_number_no_line_can_hold_never_becomes_one() {
    let story = story(guard(), 90, |minute| {
        Some(if (20..60).contains(&minute) {
            -5
        } else {
            truth(minute)
        })
    });
    let full = Some(PER_WINDOW);
    assert_eq!(story.energies, [full, None, None, None, full, full]);
    let bridged: i64 = story.audits.iter().map(|audit| audit.energy).sum();
    assert_eq!(bridged, truth(60) - truth(19), "{:?}", story.audits);
}

#[test]
fn a_meter_that_has_lost_its_mind_keeps_windows_waiting_for_a_bounded_time() {
    let mut story = Story::default();
    let mut aggregator = aggregator(guard());
    let nonsense = [-5, 7, i64::MAX, 70_000_000];
    for minute in 0..=600 {
        let value = if minute < 20 {
            truth(minute)
        } else {
            nonsense[minute as usize % 4]
        };
        push(&mut aggregator, minute, Some(value));
        story.collect(&mut aggregator, minute);
        // the lateness, then three periods and a doubt
        let over = (minute - 1 - 3 - 20) / WINDOW_MIN;
        assert!(story.energies.len() as i64 >= over, "minute {minute}");
    }
    assert_eq!(story.energies[0], Some(PER_WINDOW));
    assert_eq!(story.energies.iter().flatten().count(), 1);
}

#[test]
fn an_energy_is_as_certain_as_the_readings_are_near_to_its_ends() {
    let mut story = Story::default();
    let mut aggregator = aggregator(guard());
    // 20 s behind the minute up to minute 43, on the minute from there on
    for minute in 0..=60 {
        let late_ms = if minute < 44 { 20_000 } else { 0 };
        let row = Row {
            due_ms: minute * MINUTE_MS,
            at_ms: minute * MINUTE_MS + late_ms,
            values: vec![Some(truth(minute))],
            qualities: vec![0],
        };
        aggregator.push_row(0, row).unwrap();
    }
    story.collect(&mut aggregator, 100_000);
    // 40 s after one reading and 20 s before the other, 50 were counted between: 33 and 17
    assert_eq!(
        story.uncertainties,
        [None, Some(33 + 33), Some(33), Some(0), None]
    );
    let third = truth(45) - truth(29) - 33;
    let energies = [None, Some(PER_WINDOW), Some(third), Some(PER_WINDOW), None];
    assert_eq!(story.energies, energies);
}

#[test]
fn a_meter_that_refreshes_its_registers_every_other_minute_is_not_in_doubt() {
    // 100 kW, the most it can count
    let story = story(guard(), 90, |minute| Some(START + 166 * (minute / 2 * 2)));
    assert_eq!(story.audits, []);
}

#[test]
fn audits_and_uncertainties_come_back_from_every_codec() {
    let mut aggregator = aggregator(guard());
    for minute in 0..120 {
        let value = if minute % 30 == 7 { 0 } else { truth(minute) };
        push(&mut aggregator, minute, Some(value));
    }
    let cut = aggregator.cut(100_000 * MINUTE_MS).unwrap();
    let tables = decoded(&cut);
    let rows = |kind| tables.iter().find(|it| it.kind() == kind).map(Table::rows);
    assert_eq!(rows(TableKind::Audits), Some(4));
    assert_eq!(rows(TableKind::Uncertainties), Some(8));
    for codec in [CODEC_PLAIN, CODEC_DELTA, CODEC_CM] {
        let payload = encode_as(codec, &tables).unwrap();
        assert_eq!(decode(codec, &payload).unwrap(), tables);
    }
}

#[test]
fn windows_wait_for_the_verdict_and_no_longer() {
    // one reading off the line makes no verdict, two do when the doubt has lasted 20 minutes
    for (doubtful, verdict_min) in [(1, None), (2, Some(51))] {
        let mut aggregator = aggregator(guard());
        for minute in 0..30 {
            push(&mut aggregator, minute, Some(truth(minute)));
        }
        for minute in 30..30 + doubtful {
            push(&mut aggregator, minute, Some(0));
        }
        let mut story = Story::default();
        for minute in 33..=54 {
            story.collect(&mut aggregator, minute);
            let told = verdict_min.is_some_and(|verdict_min| minute >= verdict_min);
            assert_eq!(story.audits.len(), usize::from(told), "minute {minute}");
            let closed = if told || minute == 54 { 2 } else { 1 };
            assert_eq!(story.energies.len().min(2), closed, "minute {minute}");
        }
        // the minute from 29 to 30 is not known, and counts nothing
        let second = verdict_min.map(|_| PER_WINDOW - PER_MINUTE);
        assert_eq!(story.energies[..2], [Some(PER_WINDOW), second]);
    }
}

#[test]
fn a_line_that_begins_after_a_long_doubt_is_counted_but_in_no_window() {
    // nonsense for an hour, twice: of one kind, then of many
    let story = story(guard(), 180, |minute| match minute {
        30..90 => Some(-5),
        120..180 => Some([-5, 7, i64::MAX, 70_000_000][minute as usize % 4]),
        _ => Some(truth(minute)),
    });
    let full = Some(PER_WINDOW);
    assert_eq!(story.energies[..2], [full, None]);
    assert_eq!(story.energies[2..6], [None; 4]);
    assert_eq!(story.energies[6], full);
    assert_eq!(story.energies[7..], [None; 5]);
    let glitch = |from: i64, to: i64, doubted| {
        let closing = (from, truth(from));
        let energy = (to - from) * PER_MINUTE;
        (closing, (to, truth(to)), energy, doubted)
    };
    let told: Vec<_> = story
        .audits
        .iter()
        .map(|it| (it.closing, it.opening, it.energy, it.doubted))
        .collect();
    assert_eq!(told, [glitch(29, 90, 60), glitch(119, 180, 60)]);
}

#[test]
fn a_guard_that_guards_nothing_is_refused() {
    for (wraps_at, rate, resolution) in [
        (Some(0), 1, 1),
        (Some(-1), 1, 1),
        (None, 0, 1),
        (None, -1, 1),
        (None, 1, 0),
    ] {
        assert!(Guard::new(wraps_at, rate, resolution).is_err());
    }
}

fn decoded(cut: &Cut) -> Vec<Table> {
    let (codec, payload) = cut.encode().unwrap();
    decode(codec, &payload).unwrap()
}
