//! The rules by which a totaliser is judged, at their edges: a meter of 6.00 kW, read every minute
//! in steps of 0.01 kWh, counts 1.00 kWh in ten minutes and at most 0.22 kWh from one reading to the
//! next. What follows for windows is in `totaliser.rs` beside this file.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use edgeagg_core::totaliser::{
    doubt_ms, Audit, AuditKind, Bound, Guard, Outcome, Shown, Step, Totaliser, DOUBT_MS,
};
use edgeagg_core::varint::Reader;

const MINUTE_MS: i64 = 60_000;
const BRIDGE_MS: i64 = 3 * MINUTE_MS;
const WRAPS_AT: i64 = 1_000_000;
/// In a minute: what is counted in two, and a step at either end.
const RISE_MAX: i64 = 22;

fn shown(minute: i64, value: i64) -> Shown {
    let at_ms = minute * MINUTE_MS;
    Shown { at_ms, value }
}

fn totaliser() -> Totaliser {
    let guard = Guard::new(Some(WRAPS_AT), 600, 1).unwrap();
    Totaliser::new(guard, MINUTE_MS, BRIDGE_MS)
}

/// What comes of readings, given as minutes and values.
fn read(readings: &[(i64, i64)]) -> (Totaliser, Outcome) {
    let (mut totaliser, mut out) = (totaliser(), Outcome::default());
    for &(minute, value) in readings {
        totaliser.settle_due(minute * MINUTE_MS, &mut out);
        totaliser.push(shown(minute, value), &mut out);
    }
    (totaliser, out)
}

/// The same, with time passing up to a minute behind them.
fn settled(readings: &[(i64, i64)], minute: i64) -> (Totaliser, Outcome) {
    let (mut totaliser, mut out) = read(readings);
    totaliser.settle_due(minute * MINUTE_MS, &mut out);
    (totaliser, out)
}

/// The steps as minutes and rises.
fn steps(out: &Outcome) -> Vec<(i64, i64, i64)> {
    let minute = |ms: i64| ms / MINUTE_MS;
    let step = out.steps.iter();
    step.map(|it| (minute(it.from_ms), minute(it.to_ms), it.to - it.from))
        .collect()
}

#[test]
fn the_most_that_a_meter_can_count_is_no_doubt_and_one_more_is() {
    let (most, out) = read(&[(0, 500), (1, 500 + RISE_MAX)]);
    assert!(!most.in_doubt());
    assert_eq!(steps(&out), [(0, 1, RISE_MAX)]);
    let (more, out) = read(&[(0, 500), (1, 501 + RISE_MAX)]);
    assert!(more.in_doubt());
    assert_eq!(out, Outcome::default());
}

#[test]
fn no_line_begins_with_a_number_that_the_register_cannot_show() {
    for nonsense in [-1, WRAPS_AT] {
        let (_, out) = read(&[(0, nonsense), (1, 5), (2, 6)]);
        assert_eq!(steps(&out), [(1, 2, 1)], "{nonsense}");
        assert_eq!(out.audits, []);
    }
}

fn audit(kind: AuditKind, closing: Shown, opening: Shown, aside: (u32, Option<i64>)) -> Audit {
    Audit {
        kind,
        closing,
        opening,
        energy: opening.value - closing.value,
        doubted: aside.0,
        extreme: aside.1,
    }
}

#[test]
fn a_register_that_catches_up_and_counts_on_showed_nothing_wrong() {
    // more than is counted in a minute, no more than in the four since it stood still
    let (totaliser, out) = read(&[(0, 500), (1, 500), (2, 500), (3, 500), (4, 525), (5, 530)]);
    let freeze = audit(AuditKind::Freeze, shown(3, 500), shown(4, 525), (0, None));
    assert!(!totaliser.in_doubt());
    assert_eq!(out.audits, [freeze]);
    let ends = [(0, 1, 0), (1, 2, 0), (2, 3, 0), (3, 4, 25), (4, 5, 5)];
    assert_eq!(steps(&out), ends);
}

#[test]
fn what_a_register_that_did_not_stand_still_cannot_have_counted_was_shown_by_mistake() {
    let (_, counting) = read(&[(2, 514), (3, 521), (4, 546), (5, 551)]);
    let glitch = audit(
        AuditKind::Glitch,
        shown(3, 521),
        shown(5, 551),
        (1, Some(546)),
    );
    assert_eq!(counting.audits, [glitch]);
    // nor do these lie on one way: back again, and on behind nonsense
    let still = [(0, 500), (1, 500), (2, 500), (3, 500)];
    let (_, fallen) = read(&[&still[..], &[(4, 525), (5, 503)]].concat());
    let glitch = audit(
        AuditKind::Glitch,
        shown(3, 500),
        shown(5, 503),
        (1, Some(525)),
    );
    assert_eq!(fallen.audits, [glitch]);
    let (_, astray) = read(&[&still[..], &[(4, 900_000), (5, 540), (6, 541)]].concat());
    let glitch = audit(
        AuditKind::Glitch,
        shown(3, 500),
        shown(6, 541),
        (2, Some(900_000)),
    );
    assert_eq!(astray.audits, [glitch]);
}

#[test]
fn the_most_is_exact_where_a_product_leaves_64_bits() {
    let hour = 60 * MINUTE_MS;
    let rate_max_per_h = 10_000_000_000_000;
    let guard = Guard::new(None, rate_max_per_h, 1).unwrap();
    for (beyond, in_doubt) in [(0, false), (1, true)] {
        let mut totaliser = Totaliser::new(guard, hour, 3 * hour);
        let value = 2 * rate_max_per_h + 2 + beyond;
        totaliser.push(shown(0, 0), &mut Outcome::default());
        totaliser.push(shown(60, value), &mut Outcome::default());
        assert_eq!(totaliser.in_doubt(), in_doubt, "{beyond}");
    }
}

#[test]
fn a_clock_that_is_set_back_leaves_the_time_of_one_period() {
    let (most, out) = read(&[(5, 500), (3, 512)]);
    assert!(!most.in_doubt());
    assert_eq!(steps(&out), [(5, 3, 12)]);
    assert!(read(&[(5, 500), (3, 513)]).0.in_doubt());
    // a doubt began when the earliest of its readings was taken
    let (_, before) = settled(&[(9, 500), (10, 100), (5, 101)], 24);
    assert_eq!(before.audits, []);
    let (_, due) = settled(&[(9, 500), (10, 100), (5, 101)], 25);
    assert_eq!(due.audits.len(), 1);
}

#[test]
fn a_silence_is_interpolated_over_up_to_three_periods() {
    let (_, short) = read(&[(0, 500), (3, 501)]);
    assert!(short.steps[0].placed);
    assert_eq!(short.audits, []);
    let (_, long) = read(&[(0, 500), (4, 501)]);
    assert!(!long.steps[0].placed);
    let gap = audit(AuditKind::Gap, shown(0, 500), shown(4, 501), (0, None));
    assert_eq!(long.audits, [gap]);
    let (_, still) = read(&[(0, 500), (4, 500)]);
    assert_eq!(still.audits, [], "nothing was counted");
}

#[test]
fn what_was_counted_across_a_dip_is_placed_if_the_meter_was_read_all_the_time() {
    let far = 500 + RISE_MAX;
    for (begun, back, placed) in [(3, 4, true), (4, 5, false), (1, 20, true), (1, 21, false)] {
        let (_, out) = read(&[(0, 500), (begun, 100), (back, far)]);
        let dip = audit(
            AuditKind::Dip,
            shown(0, 500),
            shown(back, far),
            (1, Some(100)),
        );
        assert_eq!(out.audits, [dip], "{begun} to {back}");
        assert_eq!(out.steps[0].placed, placed, "{begun} to {back}");
    }
    let (_, negative) = read(&[(0, 500), (1, -5), (2, 510)]);
    assert_eq!(negative.audits[0].kind, AuditKind::Glitch);
    // a line that the second reading makes too late is in no window
    let (_, late) = settled(&[(0, 500), (1, 100), (21, 101)], 21);
    assert!(!late.steps[0].placed);
}

#[test]
fn two_readings_make_a_new_line_after_twenty_minutes_and_one_makes_none() {
    let line = [(0, 500), (1, 100), (2, 104), (4, 107)];
    assert_eq!(settled(&line, 20).1, Outcome::default());
    let (new, out) = settled(&line, 21);
    let reset = Audit {
        energy: 0,
        ..audit(AuditKind::Reset, shown(0, 500), shown(1, 100), (0, None))
    };
    assert!(!new.in_doubt());
    assert_eq!(out.audits, [reset]);
    assert_eq!(steps(&out), [(0, 1, 0), (1, 2, 4), (2, 4, 3)]);
    assert!(settled(&line[..2], 1_000).0.in_doubt());
    assert!(!settled(&line[..3], 21).0.in_doubt());
    let slow_ms = DOUBT_MS + 1;
    assert_eq!(
        (doubt_ms(BRIDGE_MS), doubt_ms(slow_ms)),
        (DOUBT_MS, slow_ms)
    );
}

#[test]
fn a_line_does_not_lead_through_what_no_register_of_its_kind_shows() {
    for (nonsense, first) in [(-5, 3), (900_000, 100)] {
        let readings = [(0, 500), (1, nonsense), (2, first), (3, first + 1)];
        let (_, out) = settled(&readings, 21);
        let reset = Audit {
            energy: 0,
            ..audit(
                AuditKind::Reset,
                shown(0, 500),
                shown(2, first),
                (1, Some(nonsense)),
            )
        };
        assert_eq!(out.audits, [reset]);
    }
}

#[test]
fn a_rollover_counts_what_the_meter_can_have_counted_since_the_last_reading() {
    let last = WRAPS_AT - 10;
    let (_, most) = settled(&[(3, last), (4, 12), (5, 13)], 24);
    let rollover = Audit {
        energy: RISE_MAX,
        ..audit(AuditKind::Rollover, shown(3, last), shown(4, 12), (0, None))
    };
    assert_eq!(most.audits, [rollover]);
    // standing still before it makes no more of it
    let (_, more) = settled(&[(0, last), (3, last), (4, 13), (5, 14)], 24);
    let reset = Audit {
        energy: 0,
        ..audit(AuditKind::Reset, shown(3, last), shown(4, 13), (0, None))
    };
    assert_eq!(more.audits, [reset]);
}

#[test]
fn a_reading_goes_on_along_the_doubted_line_if_it_is_near_to_its_end() {
    // the widest of its steps is 10: twice that and the resolution is near
    let line = [(1, 100), (2, 110), (3, 112)];
    for (value, in_doubt) in [(133, true), (134, false)] {
        let readings = [&[(0, value)], &line[..], &[(4, value)]].concat();
        assert_eq!(read(&readings).0.in_doubt(), in_doubt, "{value}");
    }
    // it may also stand still
    assert!(read(&[(0, 100), (1, 130), (2, 135), (3, 135)]).0.in_doubt());
    // one that does not move has no steps to be measured by
    assert!(!read(&[(0, 500), (1, 499), (2, 499), (3, 500)]).0.in_doubt());
}

#[test]
fn another_meter_counts_from_its_first_reading_that_makes_sense() {
    let replaced = |opening| Audit {
        energy: 0,
        ..audit(AuditKind::Replaced, shown(0, 500), opening, (0, None))
    };
    let (mut next, mut out) = read(&[(0, 500)]);
    next.replace(&mut out);
    assert_eq!(out, Outcome::default());
    for (minute, value) in [(1, -5), (2, 505), (3, 506)] {
        next.push(shown(minute, value), &mut out);
    }
    assert_eq!(out.audits, [replaced(shown(2, 505))]);
    assert_eq!(steps(&out), [(0, 2, 0), (2, 3, 1)]);
    // the reading in doubt was its own
    let (mut own, mut out) = read(&[(0, 500), (1, 100)]);
    own.replace(&mut out);
    assert_eq!(out.audits, [replaced(shown(1, 100))]);
    own.push(shown(2, 101), &mut out);
    assert_eq!(steps(&out), [(0, 1, 0), (1, 2, 1)]);
}

#[test]
fn a_stride_needs_no_judge() {
    let (mut totaliser, mut out) = read(&[(0, 500), (1, 503)]);
    assert_eq!(totaliser.stride(), (12, WRAPS_AT - 1));
    assert!(totaliser.is_at(shown(1, 503)));
    assert!(!totaliser.is_at(shown(0, 500)));
    assert_eq!(totaliser.total_at(520), 20);
    // to 530 in minute 3, where it stands still until minute 5
    totaliser.run_on(shown(5, 530), Some(3 * MINUTE_MS));
    assert!(totaliser.is_at(shown(5, 530)));
    totaliser.run_on(shown(6, 530), None);
    for (minute, value) in [(7, 555), (8, 560)] {
        totaliser.push(shown(minute, value), &mut out);
    }
    let freeze = audit(AuditKind::Freeze, shown(6, 530), shown(7, 555), (0, None));
    assert_eq!(out.audits, [freeze]);
    assert_eq!(out.steps.last().map(|step| step.to), Some(60));
    totaliser.push(shown(9, 7), &mut out);
    assert!(!totaliser.is_at(shown(8, 560)), "a reading is in doubt");
    // one that counts up to the last of the readings has not stood still
    let (mut counting, mut out) = read(&[(0, 500), (1, 503)]);
    counting.run_on(shown(6, 530), Some(6 * MINUTE_MS));
    for (minute, value) in [(7, 555), (8, 560)] {
        counting.push(shown(minute, value), &mut out);
    }
    assert_eq!(out.audits[0].kind, AuditKind::Glitch);
    let (mut replaced, mut out) = read(&[(0, 500)]);
    replaced.replace(&mut out);
    assert!(!replaced.is_at(shown(0, 500)));
}

#[test]
fn a_snapshot_holds_all_that_is_known() {
    let doubted = read(&[(0, 500), (2, 503), (3, 503), (4, 900_000), (5, 7), (6, 8)]).0;
    let (mut replaced, mut out) = read(&[(0, 500), (1, 507)]);
    replaced.replace(&mut out);
    for known in [totaliser(), doubted, replaced] {
        let mut bytes = Vec::new();
        known.save(&mut bytes);
        let mut reader = Reader::new(&bytes);
        let mut loaded = totaliser();
        loaded.load(&mut reader).unwrap();
        reader.end().unwrap();
        assert_eq!(loaded, known);
    }
}

#[test]
fn a_step_tells_the_total_within_its_ends_and_how_far_the_truth_can_be_from_it() {
    let step = Step {
        from_ms: 1_000,
        from: 40,
        to_ms: 2_000,
        to: 140,
        placed: true,
    };
    let bound = |total, uncertainty| Some(Bound { total, uncertainty });
    let found = [999, 1_000, 1_250, 1_750, 2_000, 2_001].map(|ms| step.bound_at(ms));
    let expected = [
        None,
        bound(40, 0),
        bound(65, 75),
        bound(115, 75),
        bound(140, 0),
        None,
    ];
    assert_eq!(found, expected);
    let odd = Step { to: 43, ..step };
    assert_eq!(
        odd.bound_at(1_500),
        bound(42, 2),
        "one and a half is rounded to two"
    );
    let leap = Step {
        placed: false,
        ..step
    };
    assert_eq!(leap.bound_at(1_500), None);
    let moment = Step {
        to_ms: 1_000,
        ..step
    };
    assert_eq!(moment.bound_at(1_000), None);
}
