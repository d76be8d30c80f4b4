//! Totalisers of real meters: what of their travel is energy, and a record of everything else.
//!
//! A guarded totaliser rises, by no more than its meter can count. A reading that does otherwise is
//! in doubt, and so is what follows, until a reading resumes the old line (the readings between
//! were a dip or a glitch, or the register only caught up after a freeze), or the doubt has lasted
//! [`DOUBT_MS`] and two readings or more make a new line (after a rollover, a reset, a jump or a
//! long freeze). Nothing is decided on one reading,
//! nothing is ever negative, and the energy across every such place comes with an [`Audit`]: what
//! is known is counted, what is not known counts nothing. A net or signed register is no such
//! totaliser.
//!
//! Windows see [`Step`]s of a running total that starts at 0 and never falls. This module knows no
//! windows and no clock; the longest silence that is interpolated over is given to it.

mod record;

pub use record::{Audit, AuditKind, Bound, Outcome, Shown, Step};

use crate::error::Error;
use crate::varint::{write_i64, write_option, write_u64, Reader};

/// How long a doubt lasts at most: the longest dip seen in the field took 19 minutes.
pub const DOUBT_MS: i64 = 20 * 60 * 1_000;
/// Readings of a possible new line that are kept; with one more the doubt is over early.
pub const RUN_MAX: usize = 2_048;

const HOUR_MS: u64 = 3_600_000;

/// How long a doubt lasts when silence up to `bridge_ms` is interpolated over: a meter that is read
/// once in an hour needs more than one reading to come back.
#[must_use]
pub fn doubt_ms(bridge_ms: i64) -> i64 {
    DOUBT_MS.max(bridge_ms)
}

/// What a totaliser can do, in mantissas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    wraps_at: Option<i64>,
    rate_max_per_h: i64,
    resolution: i64,
}

impl Guard {
    /// A totaliser that starts again from 0 at `wraps_at` (none: never), counts `rate_max_per_h` at
    /// most, and moves in steps of `resolution`.
    ///
    /// # Errors
    /// `InvalidArgument` unless all are positive.
    pub fn new(
        wraps_at: Option<i64>,
        rate_max_per_h: i64,
        resolution: i64,
    ) -> Result<Guard, Error> {
        if wraps_at.is_some_and(|it| it <= 0) || rate_max_per_h <= 0 || resolution <= 0 {
            return Err(Error::InvalidArgument(
                "where a totaliser wraps, its rate and its resolution are positive",
            ));
        }
        Ok(Guard {
            wraps_at,
            rate_max_per_h,
            resolution,
        })
    }

    fn can_show(&self, value: i64) -> bool {
        value >= 0 && self.wraps_at.is_none_or(|end| value < end)
    }
}

/// Readings off the line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Doubt {
    begun_ms: i64,
    /// Readings that are on no line.
    set_aside: u32,
    extreme: Option<i64>,
    /// The latest ones, which make a line of their own; never empty.
    run: Vec<Shown>,
}

/// The state of one guarded totaliser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totaliser {
    guard: Guard,
    period_ms: i64,
    bridge_ms: i64,
    last: Option<Shown>,
    /// When `last` began to be shown.
    changed_ms: i64,
    total: i64,
    doubt: Option<Doubt>,
    replaced: bool,
}

impl Totaliser {
    /// A totaliser read every `period_ms`, interpolated over `bridge_ms` at most.
    #[must_use]
    pub fn new(guard: Guard, period_ms: i64, bridge_ms: i64) -> Totaliser {
        Totaliser {
            guard,
            period_ms,
            bridge_ms,
            last: None,
            changed_ms: 0,
            total: 0,
            doubt: None,
            replaced: false,
        }
    }

    /// Whether readings are in doubt, so that what was counted is not known yet.
    #[must_use]
    pub fn in_doubt(&self) -> bool {
        self.doubt.is_some()
    }

    /// Take a good reading in. What is due by then must have been settled before, so that windows
    /// that the reading itself comes too late for learn of it.
    pub fn push(&mut self, shown: Shown, out: &mut Outcome) {
        let crowded = |doubt: &Doubt| doubt.run.len() >= RUN_MAX;
        if self.doubt.as_ref().is_some_and(crowded) {
            self.settle(None, out);
        }
        let Some(last) = self.last else {
            if self.guard.can_show(shown.value) {
                self.begin(shown);
            }
            return;
        };
        if let Some(doubt) = self.doubt.take() {
            self.push_doubtful(last, doubt, shown, out);
        } else if self.replaced {
            self.doubt = Some(Doubt::new(shown));
            self.settle(Some(AuditKind::Replaced), out);
        } else if let Some(rise) = self.rise(last, shown) {
            self.follow(last, shown, rise, out);
        } else {
            self.doubt = Some(Doubt::new(shown));
        }
    }

    /// Whether this was the last reading and lies on the line: then one that comes within the time
    /// that is interpolated over, and rises by a [`Totaliser::stride`], is a step from there and
    /// nothing else.
    #[must_use]
    pub fn is_at(&self, shown: Shown) -> bool {
        self.last == Some(shown) && self.doubt.is_none() && !self.replaced
    }

    /// How far it surely may rise from one reading to the next, however soon that comes, and the
    /// highest value it can show.
    #[must_use]
    pub fn stride(&self) -> (u64, i64) {
        let highest = self.guard.wraps_at.map_or(i64::MAX, |end| end - 1);
        let rise = u64::try_from(self.rise_max(0)).unwrap_or(u64::MAX);
        (rise, highest)
    }

    /// The total when it shows a value further along the line.
    #[must_use]
    pub fn total_at(&self, value: i64) -> i64 {
        let rise = self.last.map_or(0, |last| value.saturating_sub(last.value));
        self.total.saturating_add(rise)
    }

    /// Go on to the last of readings that are one stride after another, when nobody asks for the
    /// steps; `changed_ms` is when it began to show that one's value, if not with the readings
    /// before.
    pub fn run_on(&mut self, shown: Shown, changed_ms: Option<i64>) {
        self.total = self.total_at(shown.value);
        self.changed_ms = changed_ms.unwrap_or(self.changed_ms);
        self.last = Some(shown);
    }

    /// Take in that another meter hangs there: the readings in doubt are its own, or else the next.
    pub fn replace(&mut self, out: &mut Outcome) {
        self.replaced = true;
        self.settle(Some(AuditKind::Replaced), out);
    }

    /// End a doubt that has lasted long enough at `now_ms`.
    pub fn settle_due(&mut self, now_ms: i64, out: &mut Outcome) {
        let longest_ms = doubt_ms(self.bridge_ms);
        let due = |doubt: &Doubt| {
            doubt.run.len() > 1 && now_ms.saturating_sub(doubt.begun_ms) >= longest_ms
        };
        if self.doubt.as_ref().is_some_and(due) {
            self.settle(None, out);
        }
    }

    fn begin(&mut self, shown: Shown) {
        self.last = Some(shown);
        self.changed_ms = shown.at_ms;
    }

    /// What was counted from one reading to the other, if that is what such a meter does.
    fn rise(&self, from: Shown, to: Shown) -> Option<i64> {
        let rise = i128::from(to.value) - i128::from(from.value);
        let can = rise >= 0 && rise <= self.rise_max(to.at_ms.saturating_sub(from.at_ms));
        i64::try_from(rise)
            .ok()
            .filter(|_| can && self.guard.can_show(to.value))
    }

    /// The most that is counted in a time: a meter refreshes its registers late by a period at
    /// most, and rounds at both ends.
    fn rise_max(&self, elapsed_ms: i64) -> i128 {
        let time_ms = i128::from(elapsed_ms.max(0)) + i128::from(self.period_ms);
        let counted = i128::from(self.guard.rate_max_per_h) * time_ms;
        // a processor divides 64 bits many times as fast as 128
        let counted = match u64::try_from(counted) {
            Ok(counted) => i128::from(counted / HOUR_MS),
            Err(_) => counted / i128::from(HOUR_MS),
        };
        counted + 2 * i128::from(self.guard.resolution)
    }

    /// Go on along the line.
    fn follow(&mut self, last: Shown, shown: Shown, rise: i64, out: &mut Outcome) {
        let placed = shown.at_ms.saturating_sub(last.at_ms) <= self.bridge_ms;
        if !placed && rise > 0 {
            out.audits.push(Audit {
                kind: AuditKind::Gap,
                closing: last,
                opening: shown,
                energy: rise,
                doubted: 0,
                extreme: None,
            });
        }
        self.count(last, shown, rise, placed, out);
    }

    /// Make `shown` the last reading, `rise` above the one before.
    fn count(&mut self, last: Shown, shown: Shown, rise: i64, placed: bool, out: &mut Outcome) {
        let from = self.total;
        self.total = self.total.saturating_add(rise);
        if shown.value != last.value {
            self.changed_ms = shown.at_ms;
        }
        self.last = Some(shown);
        out.steps.push(Step {
            from_ms: last.at_ms,
            from,
            to_ms: shown.at_ms,
            to: self.total,
            placed,
        });
    }

    fn push_doubtful(&mut self, last: Shown, mut doubt: Doubt, shown: Shown, out: &mut Outcome) {
        // a clock set back must not make a doubt last
        doubt.begun_ms = doubt.begun_ms.min(shown.at_ms);
        let resumed = self.rise(last, shown);
        if let Some(rise) = resumed.filter(|_| !doubt.continued_by(shown, self.guard.resolution)) {
            if self.has_caught_up(last, &doubt, shown) {
                doubt.run.push(shown);
                self.doubt = Some(doubt);
                self.settle(None, out);
                return;
            }
            let placed = self.is_placed(last, &doubt, shown);
            doubt.set_run_aside(last.value);
            let extreme = doubt.extreme;
            let lower = |value| (0..=last.value).contains(&value);
            out.audits.push(Audit {
                kind: if extreme.is_some_and(lower) {
                    AuditKind::Dip
                } else {
                    AuditKind::Glitch
                },
                closing: last,
                opening: shown,
                energy: rise,
                doubted: doubt.set_aside,
                extreme,
            });
            self.count(last, shown, rise, placed, out);
            return;
        }
        let end = doubt.run.last().copied();
        let end = end.filter(|end| self.guard.can_show(end.value));
        if end.and_then(|end| self.rise(end, shown)).is_none() {
            doubt.set_run_aside(last.value);
        }
        doubt.run.push(shown);
        self.doubt = Some(doubt);
    }

    /// Whether all readings in doubt lie on the way to `shown`, and the first of them only made up
    /// for the time that the register stood still: then nothing was shown by mistake.
    fn has_caught_up(&self, last: Shown, doubt: &Doubt, shown: Shown) -> bool {
        let (Some(first), Some(end)) = (doubt.run.first(), doubt.run.last()) else {
            return false;
        };
        doubt.set_aside == 0
            && self.rise(*end, shown).is_some()
            && self.classify(last, *first).0 == AuditKind::Freeze
    }

    /// Whether the total is interpolated across a doubt that ended with `shown`: the meter was read
    /// all the time, and windows have waited.
    fn is_placed(&self, last: Shown, doubt: &Doubt, shown: Shown) -> bool {
        doubt.begun_ms.saturating_sub(last.at_ms) <= self.bridge_ms
            && shown.at_ms.saturating_sub(doubt.begun_ms) < doubt_ms(self.bridge_ms)
    }

    /// Take the readings in doubt as a new line; a single one that no line can hold is dropped.
    fn settle(&mut self, known: Option<AuditKind>, out: &mut Outcome) {
        let (Some(doubt), Some(last)) = (self.doubt.take(), self.last) else {
            return;
        };
        let first = doubt.run.first().copied();
        let Some(first) = first.filter(|first| self.guard.can_show(first.value)) else {
            return;
        };
        let placed = self.is_placed(last, &doubt, doubt.run.get(1).copied().unwrap_or(first));
        let (kind, energy) = known.map_or_else(|| self.classify(last, first), |kind| (kind, 0));
        self.replaced = false;
        out.audits.push(Audit {
            kind,
            closing: last,
            opening: first,
            energy,
            doubted: doubt.set_aside,
            extreme: doubt.extreme,
        });
        self.count(last, first, energy, placed, out);
        let mut last = first;
        for shown in doubt.run.into_iter().skip(1) {
            if let Some(rise) = self.rise(last, shown) {
                self.follow(last, shown, rise, out);
                last = shown;
            }
        }
    }

    /// Tell what led from the old line to a new one, and what was counted in between for certain.
    fn classify(&self, last: Shown, first: Shown) -> (AuditKind, i64) {
        let rise = i128::from(first.value) - i128::from(last.value);
        let (kind, counted, since_ms) = if rise >= 0 {
            (AuditKind::Freeze, Some(rise), self.changed_ms)
        } else {
            let wraps_at = self.guard.wraps_at.map(i128::from);
            (
                AuditKind::Rollover,
                wraps_at.map(|end| end + rise),
                last.at_ms,
            )
        };
        let most = self.rise_max(first.at_ms.saturating_sub(since_ms));
        match counted
            .filter(|&counted| counted <= most)
            .map(i64::try_from)
        {
            Some(Ok(counted)) => (kind, counted),
            _ if rise >= 0 => (AuditKind::Jump, 0),
            _ => (AuditKind::Reset, 0),
        }
    }

    /// Append the state to a snapshot.
    pub fn save(&self, out: &mut Vec<u8>) {
        write_option(out, self.last.map(|last| last.at_ms));
        write_i64(out, self.last.map_or(0, |last| last.value));
        write_i64(out, self.changed_ms);
        write_i64(out, self.total);
        out.push(u8::from(self.replaced));
        write_option(out, self.doubt.as_ref().map(|doubt| doubt.begun_ms));
        let Some(doubt) = &self.doubt else { return };
        write_u64(out, u64::from(doubt.set_aside));
        write_option(out, doubt.extreme);
        write_u64(out, doubt.run.len() as u64);
        for shown in &doubt.run {
            write_i64(out, shown.at_ms.wrapping_sub(doubt.begun_ms));
            write_i64(out, shown.value);
        }
    }

    /// Read the state that [`Totaliser::save`] wrote for a totaliser with the same guard.
    ///
    /// # Errors
    /// `Truncated`, `Corrupt` or `TooLarge`.
    pub fn load(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        let at_ms = reader.option()?;
        let value = reader.i64()?;
        self.last = at_ms.map(|at_ms| Shown { at_ms, value });
        self.changed_ms = reader.i64()?;
        self.total = reader.i64()?;
        self.replaced = reader.byte()? != 0;
        self.doubt = None;
        let Some(begun_ms) = reader.option()? else {
            return Ok(());
        };
        let set_aside = reader.count("readings set aside", u32::MAX as usize)? as u32;
        let extreme = reader.option()?;
        let count = reader.count("readings in doubt", RUN_MAX)?;
        let mut run = Vec::with_capacity(count);
        for _ in 0..count {
            let at_ms = begun_ms.wrapping_add(reader.i64()?);
            let value = reader.i64()?;
            run.push(Shown { at_ms, value });
        }
        self.doubt = Some(Doubt {
            begun_ms,
            set_aside,
            extreme,
            run,
        });
        Ok(())
    }
}

impl Doubt {
    fn new(shown: Shown) -> Doubt {
        Doubt {
            begun_ms: shown.at_ms,
            set_aside: 0,
            extreme: None,
            run: vec![shown],
        }
    }

    /// Whether a reading lies no further from the run than its own readings do from each other: a
    /// counter that lost a little and counts on comes by its old value, and resumes nothing there.
    fn continued_by(&self, shown: Shown, resolution: i64) -> bool {
        let steps = self.run.windows(2).filter_map(|pair| match pair {
            [from, to] => to.value.checked_sub(from.value),
            _ => None,
        });
        let Some(widest) = steps.max().filter(|&widest| widest > 0) else {
            return false;
        };
        let most = 2 * i128::from(widest) + i128::from(resolution);
        let end = self.run.last().map_or(0, |end| i128::from(end.value));
        (0..=most).contains(&(i128::from(shown.value) - end))
    }

    /// Give the run up as a line; remember how far from `line` it was.
    fn set_run_aside(&mut self, line: i64) {
        self.set_aside = self.set_aside.saturating_add(self.run.len() as u32);
        let values = self.run.drain(..).map(|shown| shown.value);
        self.extreme = values
            .chain(self.extreme)
            .max_by_key(|value| value.abs_diff(line));
    }
}
