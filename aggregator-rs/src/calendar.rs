//! The site's local time: where windows, days and months begin.
//!
//! A window shorter than an hour begins at a multiple of its length in UTC. An hour begins when the
//! local clock shows a whole hour, and where the clock is changed a new one begins. A longer window
//! begins at the first moment when the local clock has reached a multiple of its length, counted
//! from local midnight of 1970-01-01; so days are 23 or 25 hours long where the clock is changed,
//! and an hour that comes twice lies in one window. Months begin with their first day.
//!
//! No time-zone database here: the caller names the changes of the offset for the years it needs.

use crate::error::Error;

/// Length of an hour.
pub const HOUR_MS: i64 = 3_600_000;
/// Length of a day whose clock is not changed.
pub const DAY_MS: i64 = 24 * HOUR_MS;
/// The length that stands for a month of the local calendar, whatever its own length: 31 days.
pub const MONTH_MS: i64 = 31 * DAY_MS;
/// China Standard Time, without summer time since 1992: the default.
pub const SHANGHAI_OFFSET_MS: i64 = 8 * HOUR_MS;
/// Most changes of the offset; two a year fill more than ten centuries.
pub const CHANGES_MAX: usize = 4_096;

/// A half-open stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Its first moment, UTC milliseconds.
    pub start_ms: i64,
    /// The first moment behind it.
    pub end_ms: i64,
}

/// What divides time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// Windows of this many milliseconds.
    Length(i64),
    /// Months of the calendar.
    Month,
}

impl Span {
    /// What windows of this length are: [`MONTH_MS`] are months.
    #[must_use]
    pub fn of(length_ms: i64) -> Span {
        match length_ms {
            MONTH_MS => Span::Month,
            _ => Span::Length(length_ms),
        }
    }
}

/// Time with one offset from UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_field_names)] // units stand last in names
struct Stretch {
    from_ms: i64,
    until_ms: i64,
    offset_ms: i64,
    /// The latest local time that was ever shown before.
    shown_ms: i64,
}

/// Local time of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    stretches: Vec<Stretch>,
}

impl Default for Calendar {
    fn default() -> Calendar {
        Calendar {
            stretches: vec![Stretch::always(SHANGHAI_OFFSET_MS)],
        }
    }
}

impl Stretch {
    fn always(offset_ms: i64) -> Stretch {
        Stretch {
            from_ms: i64::MIN,
            until_ms: i64::MAX,
            offset_ms,
            shown_ms: i64::MIN,
        }
    }
}

impl Calendar {
    /// A calendar from (UTC milliseconds, offset of local time from UTC in milliseconds) per change,
    /// in order. The first offset also holds before, the last one for ever.
    ///
    /// # Errors
    /// `InvalidArgument` for no offset or too many, an offset of a day or more, and times that do
    /// not ascend or lie beyond ±2^53.
    pub fn new(changes: &[(i64, i64)]) -> Result<Calendar, Error> {
        let Some(((_, first), later)) = changes.split_first() else {
            return Err(Error::InvalidArgument("a calendar needs an offset"));
        };
        if changes.len() > CHANGES_MAX {
            return Err(Error::InvalidArgument(
                "a calendar has at most 4096 offsets",
            ));
        }
        let wrong = |&(at_ms, offset_ms): &(i64, i64)| {
            at_ms.unsigned_abs() > 1 << 53 || offset_ms.unsigned_abs() >= DAY_MS as u64
        };
        if changes.iter().any(wrong) || changes.iter().zip(later).any(|(a, b)| a.0 >= b.0) {
            return Err(Error::InvalidArgument(
                "the changes of a calendar ascend, with offsets below a day",
            ));
        }
        let mut stretches = vec![Stretch::always(*first)];
        let mut shown_ms = i64::MIN;
        for &(from_ms, offset_ms) in later {
            if let Some(former) = stretches.last_mut() {
                former.until_ms = from_ms;
                shown_ms = shown_ms.max(from_ms + former.offset_ms - 1);
            }
            stretches.push(Stretch {
                from_ms,
                until_ms: i64::MAX,
                offset_ms,
                shown_ms,
            });
        }
        Ok(Calendar { stretches })
    }

    /// The window, or month, that `at_ms` lies in. A length is positive.
    #[must_use]
    pub fn bounds(&self, at_ms: i64, span: Span) -> Bounds {
        match span {
            Span::Length(length_ms) if length_ms < HOUR_MS => multiple(at_ms, length_ms),
            Span::Length(HOUR_MS) => self.hour(at_ms),
            Span::Length(length_ms) => {
                let start_ms = multiple(self.latest_ms(at_ms), length_ms).start_ms;
                self.between(start_ms, start_ms.saturating_add(length_ms))
            }
            Span::Month => {
                let month = month_of(self.latest_ms(at_ms).div_euclid(DAY_MS));
                self.between(month_start(month) * DAY_MS, month_start(month + 1) * DAY_MS)
            }
        }
    }

    /// Whether every window of the one span ends where one of the shorter span does, so that it is
    /// made of whole ones. Lengths are positive.
    #[must_use]
    pub fn nests(&self, shorter: Span, longer: Span) -> bool {
        let (Span::Length(part_ms), whole_ms) = (match longer {
            // a month begins at a midnight
            Span::Month => (shorter, DAY_MS),
            Span::Length(length_ms) => (shorter, length_ms),
        }) else {
            return longer == Span::Month;
        };
        let in_utc = part_ms < HOUR_MS && whole_ms >= HOUR_MS;
        whole_ms % part_ms == 0 && (!in_utc || self.changes_are_multiples(part_ms))
    }

    /// Whether the local clock always shows a multiple when UTC does.
    fn changes_are_multiples(&self, length_ms: i64) -> bool {
        let changes = self.stretches.iter().skip(1).map(|it| it.from_ms);
        let mut times = changes.chain(self.stretches.iter().map(|it| it.offset_ms));
        times.all(|ms| ms % length_ms == 0)
    }

    fn hour(&self, at_ms: i64) -> Bounds {
        let stretch = self.stretch(at_ms);
        let local = multiple(at_ms.saturating_add(stretch.offset_ms), HOUR_MS);
        Bounds {
            start_ms: local
                .start_ms
                .saturating_sub(stretch.offset_ms)
                .max(stretch.from_ms),
            end_ms: local
                .end_ms
                .saturating_sub(stretch.offset_ms)
                .min(stretch.until_ms),
        }
    }

    fn between(&self, local_start_ms: i64, local_end_ms: i64) -> Bounds {
        Bounds {
            start_ms: self.reached_ms(local_start_ms),
            end_ms: self.reached_ms(local_end_ms),
        }
    }

    fn stretch(&self, at_ms: i64) -> Stretch {
        let behind = self.stretches.partition_point(|it| it.from_ms <= at_ms);
        let found = self.stretches.get(behind.saturating_sub(1));
        found.copied().unwrap_or(Stretch::always(0))
    }

    /// The latest local time shown up to and at `at_ms`.
    fn latest_ms(&self, at_ms: i64) -> i64 {
        let stretch = self.stretch(at_ms);
        let local_ms = at_ms.saturating_add(stretch.offset_ms);
        local_ms.max(stretch.shown_ms)
    }

    /// The first moment when the local clock shows `local_ms` or later.
    fn reached_ms(&self, local_ms: i64) -> i64 {
        let reached = |it: &&Stretch| local_ms.saturating_sub(it.offset_ms) < it.until_ms;
        let stretch = self.stretches.iter().find(reached);
        stretch.map_or(i64::MAX, |it| {
            local_ms.saturating_sub(it.offset_ms).max(it.from_ms)
        })
    }
}

fn multiple(ms: i64, length_ms: i64) -> Bounds {
    let start_ms = ms.saturating_sub(ms.rem_euclid(length_ms));
    Bounds {
        start_ms,
        end_ms: start_ms.saturating_add(length_ms),
    }
}

/// Days of 400 years, after which the Gregorian calendar repeats itself.
const ERA_DAYS: i64 = 146_097;
/// Day 0 is 1970-01-01; years begin in March here, so that a leap day ends its year.
const MARCH_OF_YEAR_0: i64 = -719_468;

/// The month, counted from January of year 0, that a day lies in.
fn month_of(day: i64) -> i64 {
    let era = (day - MARCH_OF_YEAR_0).div_euclid(ERA_DAYS);
    let day_of_era = (day - MARCH_OF_YEAR_0).rem_euclid(ERA_DAYS);
    let leaps = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year = (day_of_era - leaps) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    (era * 400 + year) * 12 + month + 2
}

/// The first day of a month, counted from January of year 0.
fn month_start(month: i64) -> i64 {
    let from_march = month - 2;
    let (year, month) = (from_march.div_euclid(12), from_march.rem_euclid(12));
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month + 2) / 5;
    era * ERA_DAYS + 365 * year + year / 4 - year / 100 + day_of_year + MARCH_OF_YEAR_0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_of_eight_centuries_follow_each_other_without_a_hole() {
        let lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut day = month_start(1_600 * 12);
        for month in 1_600 * 12..2_400 * 12 {
            assert_eq!(month_start(month), day);
            let year = month / 12;
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length: i64 = lengths
                .into_iter()
                .nth((month % 12) as usize)
                .unwrap_or_default();
            let length = length + i64::from(leap && month % 12 == 1);
            for inside in [day, day + 1, day + length - 1] {
                assert_eq!(month_of(inside), month, "day {inside}");
            }
            day += length;
        }
        assert_eq!(month_start(1_970 * 12), 0);
    }
}
