//! The rules by which a totaliser is judged, at their edges: a meter of 6.00 kW, read every minute
//! in steps of 0.01 kWh, counts 1.00 kWh in ten minutes and at most 0.22 kWh from one reading to the
//! next. What follows for windows is in `totaliser.rs` beside this file.
#![allow(clippy::unwrap_used, missing_docs)]

use edgeagg_core::totaliser::{Audit, AuditKind, Guard, Outcome, Shown, Totaliser};

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
