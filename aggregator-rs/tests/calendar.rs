//! Local days, hours and months against calendars that anybody can look up, and against a walk
//! through time, minute by minute.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use edgeagg_core::calendar::{
    Bounds, Calendar, Span, DAY_MS, HOUR_MS, MONTH_MS, SHANGHAI_OFFSET_MS,
};

const MINUTE_MS: i64 = 60_000;
const DAY: Span = Span::Length(DAY_MS);
const HOUR: Span = Span::Length(HOUR_MS);

/// UTC milliseconds of a moment in 2026, month and day from 1.
fn utc(month: i64, day: i64, hour: i64, minute: i64) -> i64 {
    let before: i64 = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
        .iter()
        .take(month as usize - 1)
        .sum();
    // 2026-01-01 is 20454 days behind 1970-01-01
    (20_454 + before + day - 1) * DAY_MS + hour * HOUR_MS + minute * MINUTE_MS
}

/// Central Europe in 2026: summer time from 29 March 01:00 UTC to 25 October 01:00 UTC.
fn berlin() -> Calendar {
    Calendar::new(&[
        (utc(1, 1, 0, 0), HOUR_MS),
        (utc(3, 29, 1, 0), 2 * HOUR_MS),
        (utc(10, 25, 1, 0), HOUR_MS),
    ])
    .unwrap()
}

fn bounds(calendar: &Calendar, at_ms: i64, span: Span) -> (i64, i64) {
    let Bounds { start_ms, end_ms } = calendar.bounds(at_ms, span);
    (start_ms, end_ms)
}

#[test]
fn a_day_in_shanghai_begins_at_sixteen_hours_utc() {
    let calendar = Calendar::default();
    let expected = (utc(5, 31, 16, 0), utc(6, 1, 16, 0));
    assert_eq!(bounds(&calendar, utc(6, 1, 0, 0), DAY), expected);
    assert_eq!(bounds(&calendar, expected.0, DAY), expected);
    assert_eq!(bounds(&calendar, expected.1 - 1, DAY), expected);
    let same = Calendar::new(&[(0, SHANGHAI_OFFSET_MS)]).unwrap();
    assert_eq!(same, calendar);
}

#[test]
fn the_days_of_a_clock_change_have_23_and_25_hours() {
    let calendar = berlin();
    let spring = bounds(&calendar, utc(3, 29, 12, 0), DAY);
    assert_eq!(spring, (utc(3, 28, 23, 0), utc(3, 29, 22, 0)));
    assert_eq!(spring.1 - spring.0, 23 * HOUR_MS);
    let autumn = bounds(&calendar, utc(10, 25, 12, 0), DAY);
    assert_eq!(autumn, (utc(10, 24, 22, 0), utc(10, 25, 23, 0)));
    assert_eq!(autumn.1 - autumn.0, 25 * HOUR_MS);
}

#[test]
fn six_hours_that_hold_a_clock_change_are_five_or_seven() {
    let (calendar, span) = (berlin(), Span::Length(6 * HOUR_MS));
    let spring = bounds(&calendar, utc(3, 29, 0, 0), span);
    assert_eq!(spring, (utc(3, 28, 23, 0), utc(3, 29, 4, 0)));
    let autumn = bounds(&calendar, utc(10, 25, 1, 30), span);
    assert_eq!(autumn, (utc(10, 24, 22, 0), utc(10, 25, 5, 0)));
}

#[test]
fn an_hour_that_comes_twice_is_two_hours() {
    let calendar = berlin();
    for hour in 0..3 {
        let expected = (utc(10, 25, hour, 0), utc(10, 25, hour + 1, 0));
        assert_eq!(bounds(&calendar, utc(10, 25, hour, 30), HOUR), expected);
    }
}

#[test]
fn a_clock_changed_by_half_an_hour_ends_the_hour_it_is_changed_in() {
    // Lord Howe Island: 11:00 ahead until 4 April 15:00 UTC, 10:30 from then on
    let change_ms = utc(4, 4, 15, 0);
    let half_ms = 30 * MINUTE_MS;
    let calendar = Calendar::new(&[(0, 22 * half_ms), (change_ms, 21 * half_ms)]).unwrap();
    let before = (change_ms - HOUR_MS, change_ms);
    assert_eq!(bounds(&calendar, change_ms - 1, HOUR), before);
    // 01:30 to 02:00 comes a second time
    let again = (change_ms, change_ms + half_ms);
    assert_eq!(bounds(&calendar, change_ms, HOUR), again);
    let next = (again.1, again.1 + HOUR_MS);
    assert_eq!(bounds(&calendar, again.1, HOUR), next);
}

#[test]
fn a_midnight_that_comes_twice_begins_its_day_once() {
    // Newfoundland until 2011: one minute past midnight the clock went back to 23:01
    let change_ms = utc(11, 1, 2, 31);
    let summer_ms = -(2 * HOUR_MS + 30 * MINUTE_MS);
    let calendar = Calendar::new(&[(0, summer_ms), (change_ms, summer_ms - HOUR_MS)]).unwrap();
    let expected = (change_ms - MINUTE_MS, change_ms - MINUTE_MS + 25 * HOUR_MS);
    for at_ms in [expected.0, change_ms, change_ms + HOUR_MS, expected.1 - 1] {
        assert_eq!(bounds(&calendar, at_ms, DAY), expected);
    }
}

#[test]
fn a_day_that_was_left_out_is_no_window() {
    // Samoa went from the end of 29 December straight to 31 December
    let change_ms = utc(12, 30, 10, 0);
    let calendar = Calendar::new(&[(0, -10 * HOUR_MS), (change_ms, 14 * HOUR_MS)]).unwrap();
    let before = (change_ms - DAY_MS, change_ms);
    assert_eq!(bounds(&calendar, change_ms - 1, DAY), before);
    let behind = (change_ms, change_ms + DAY_MS);
    assert_eq!(bounds(&calendar, change_ms, DAY), behind);
}

#[test]
fn a_month_begins_with_its_first_local_day() {
    let calendar = Calendar::default();
    let may = (utc(4, 30, 16, 0), utc(5, 31, 16, 0));
    assert_eq!(bounds(&calendar, may.0, Span::Month), may);
    assert_eq!(bounds(&calendar, may.1 - 1, Span::Month), may);
    let october = bounds(&berlin(), utc(10, 25, 0, 0), Span::Month);
    assert_eq!(october.1 - october.0, 31 * DAY_MS + HOUR_MS);
}

#[test]
fn the_length_of_31_days_means_a_month() {
    assert_eq!(Span::of(MONTH_MS), Span::Month);
    assert_eq!(Span::of(DAY_MS), DAY);
    let february = bounds(&berlin(), utc(2, 14, 0, 0), Span::of(MONTH_MS));
    assert_eq!(february.1 - february.0, 28 * DAY_MS);
}

#[test]
fn what_nests_ends_together() {
    let minutes = |count| Span::Length(count * MINUTE_MS);
    let half_hours = Calendar::new(&[(0, 11 * 30 * MINUTE_MS)]).unwrap();
    let odd = Calendar::new(&[(0, HOUR_MS), (utc(4, 1, 3, 7), 2 * HOUR_MS)]).unwrap();
    for (calendar, shorter, longer, nests) in [
        (berlin(), minutes(15), HOUR, true),
        (berlin(), minutes(15), DAY, true),
        (berlin(), minutes(7), HOUR, false),
        (berlin(), minutes(7), minutes(14), true),
        (berlin(), HOUR, DAY, true),
        (berlin(), DAY, HOUR, false),
        (berlin(), minutes(15), Span::Month, true),
        (berlin(), DAY, Span::Month, true),
        (berlin(), Span::Length(7 * DAY_MS), Span::Month, false),
        (berlin(), Span::Month, Span::Month, true),
        (berlin(), Span::Month, DAY, false),
        // half an hour is no multiple of 20 minutes: their day begins inside one
        (half_hours.clone(), minutes(20), HOUR, false),
        (half_hours, minutes(15), DAY, true),
        // the clock is changed at seven minutes past
        (odd.clone(), minutes(15), HOUR, false),
        (odd.clone(), minutes(1), HOUR, true),
        (odd, HOUR, DAY, true),
    ] {
        assert_eq!(
            calendar.nests(shorter, longer),
            nests,
            "{shorter:?} in {longer:?}"
        );
    }
}

#[test]
fn windows_below_an_hour_are_multiples_in_utc_whatever_the_clock_does() {
    for length_ms in [1, 1_000, 7_500, 900_000, 7 * MINUTE_MS] {
        let at_ms = utc(10, 25, 1, 0) + 12_345;
        let start_ms = at_ms / length_ms * length_ms;
        let found = bounds(&berlin(), at_ms, Span::Length(length_ms));
        assert_eq!(found, (start_ms, start_ms + length_ms));
    }
}

/// Walk from minute to minute. A window of more than an hour, or a month, is new where the highest
/// local time so far passes a multiple; an hour where the local hour or the offset changes.
#[test]
fn every_window_of_a_year_is_that_of_a_walk_through_it() {
    let half_ms = 30 * MINUTE_MS;
    let odd = [
        (utc(1, 1, 0, 0), 11 * half_ms),
        (utc(2, 3, 18, 31), 9 * half_ms),
        (utc(2, 3, 19, 0), 12 * half_ms),
        (utc(5, 9, 3, 7), -20 * half_ms),
        (utc(9, 1, 0, 0), 28 * half_ms),
    ];
    for calendar_changes in [
        &odd[..],
        &[
            (0, HOUR_MS),
            (utc(3, 29, 1, 0), 2 * HOUR_MS),
            (utc(10, 25, 1, 0), HOUR_MS),
        ],
    ] {
        let calendar = Calendar::new(calendar_changes).unwrap();
        for hours in [1, 2, 5, 6, 24] {
            walk(&calendar, calendar_changes, hours * HOUR_MS);
        }
    }
}

fn walk(calendar: &Calendar, changes: &[(i64, i64)], length_ms: i64) {
    let offset_at = |ms: i64| {
        let offsets = changes.iter().rev();
        let mut passed = offsets.skip_while(|change| change.0 > ms);
        passed.next().map_or(changes[0].1, |change| change.1)
    };
    let (from_ms, to_ms) = (utc(1, 1, 0, 0), utc(12, 31, 0, 0));
    let mut highest_ms = i64::MIN;
    let mut starts = Vec::new();
    let mut former = None;
    for ms in (from_ms..to_ms).step_by(MINUTE_MS as usize) {
        let local_ms = ms + offset_at(ms);
        highest_ms = highest_ms.max(local_ms);
        let key = if length_ms == HOUR_MS {
            (local_ms.div_euclid(HOUR_MS), offset_at(ms))
        } else {
            (highest_ms.div_euclid(length_ms), 0)
        };
        if former.replace(key) != Some(key) {
            starts.push(ms);
        }
    }
    for pair in starts.windows(2).skip(1) {
        for at_ms in [pair[0], (pair[0] + pair[1]) / 2, pair[1] - 1] {
            let found = bounds(calendar, at_ms, Span::Length(length_ms));
            assert_eq!(found, (pair[0], pair[1]), "{length_ms} ms at {at_ms}");
        }
    }
}

#[test]
fn a_calendar_that_makes_no_sense_cannot_be_made() {
    assert!(Calendar::new(&[]).is_err());
    assert!(Calendar::new(&[(0, DAY_MS)]).is_err());
    assert!(Calendar::new(&[(5, 0), (5, 1)]).is_err());
    assert!(Calendar::new(&[(i64::MIN, 0)]).is_err());
    assert!(Calendar::new(&[(5, 0), (i64::MAX, 0)]).is_err());
    assert!(Calendar::new(&vec![(0, 0); 5_000]).is_err());
}
