//! Windows over one group: half-open [start, end), where [`crate::calendar`] puts them.
//!
//! A gauge is held from one good reading to the next, at most [`HOLD_PERIODS`] periods and never
//! past a failed one; its mean is weighted by the time it was held. A totaliser's energy is the
//! difference of its totals at the window's two ends, each interpolated between the good readings
//! on either side, if they lie within [`BRIDGE_PERIODS`] periods of each other. One without a guard
//! that ran backwards leaves the windows it touched without energy; one with a guard is judged (see
//! [`crate::totaliser`]), and windows wait for the verdict.
//!
//! Lengths that nest make a chain: a row is taken in once, for the shortest one, and what a
//! stretch of that length came to is added to the longer windows without an error. A row that is
//! too late for a window that has ended is in none of the chain. Time without a row makes no short
//! window, but values held then count in the longer ones.

mod cell;
mod level;
mod run;
mod sums;

use std::sync::Arc;

use level::{Level, Points};
use run::Run;
use sums::Sums;

use crate::calendar::{Bounds, Calendar, Span};
use crate::error::Error;
use crate::reading::{Block, RowView, GOOD};
use crate::totaliser::{Guard, Step};
use crate::varint::{write_i64, write_u64, Reader};

/// How long a value stands for its point, in periods.
pub const HOLD_PERIODS: i64 = 2;
/// Longest distance of the two readings that a boundary value is interpolated between, in periods.
pub const BRIDGE_PERIODS: i64 = 3;
/// No window is told earlier than this past its end, for readings that are still under way and for
/// a clock that is set back.
pub const LATENESS_MS: i64 = 2_000;
/// The mean carries this many times the resolution of its point.
pub const MEAN_SCALE: i128 = 1_000;

/// How a point behaves in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointKind {
    /// A quantity of the moment.
    Gauge,
    /// A cumulative register whose steps are taken as they are.
    Totaliser,
    /// A cumulative register whose steps are judged.
    Guarded(Guard),
}

impl PointKind {
    /// Whether its steps are judged, and its energy comes with an uncertainty.
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        matches!(self, PointKind::Guarded(_))
    }
}

/// The last good reading of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Good {
    /// When it was taken.
    pub at_ms: i64,
    /// Its mantissa.
    pub value: i64,
    /// Until when it stands for the point.
    pub held_until_ms: i64,
}

/// What a point's totaliser counted: the point's index, and the step.
pub type PointStep = (usize, Step);

/// A finished window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowRow {
    /// Its start.
    pub start_ms: i64,
    /// [`WINDOW_COLUMNS`] values per point.
    pub values: Vec<Option<i64>>,
    /// How far its energy's two ends can be from the truth, per guarded totaliser.
    pub uncertainties: Vec<Option<i64>>,
    /// [`crate::table::STATISTICS_COLUMNS`] values per point they are asked for.
    pub statistics: Vec<Option<i64>>,
}

/// The windows of some lengths over one group, each made of whole windows of the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    points: Points,
    /// With the place of each length among all lengths.
    levels: Vec<(usize, Level)>,
    /// The open window of the first length; empty when there is none.
    stretch: Bounds,
    /// Rows in it.
    rows: u32,
    /// What they come to.
    sums: Vec<Sums>,
    /// The time up to which held values have been weighed in it.
    weighed_ms: i64,
    /// No reading before this time can enter a window any more.
    sealed_ms: i64,
}

const NOTHING: Bounds = Bounds {
    start_ms: i64::MIN,
    end_ms: i64::MIN,
};

/// Windows of these lengths over points of these kinds, read every `period_ms`, in as few chains as
/// there can be; `sampled` tells, for each of the points, whether it has statistics.
///
/// # Errors
/// `InvalidArgument` unless all times are positive.
pub fn chains(
    lengths_ms: &[i64],
    period_ms: i64,
    kinds: &[PointKind],
    sampled: &[bool],
    calendar: &Arc<Calendar>,
) -> Result<Vec<Chain>, Error> {
    if period_ms <= 0 || lengths_ms.iter().any(|&it| it <= 0) {
        return Err(Error::InvalidArgument(
            "window length and period must be positive",
        ));
    }
    let mut lengths: Vec<(usize, i64)> = lengths_ms.iter().copied().enumerate().collect();
    lengths.sort_by_key(|&(_, length_ms)| length_ms);
    let mut chains: Vec<(Span, Chain)> = Vec::new();
    for (place, length_ms) in lengths {
        let span = Span::of(length_ms);
        let nests = |it: &&mut (Span, Chain)| calendar.nests(it.0, span);
        if let Some((_, chain)) = chains.iter_mut().find(nests) {
            chain.levels.push((place, Level::new(length_ms, false)));
        } else {
            let level = (place, Level::new(length_ms, true));
            let points = Points {
                period_ms,
                kinds: kinds.to_vec(),
                sampled: sampled.to_vec(),
                calendar: Arc::clone(calendar),
            };
            chains.push((span, Chain::new(points, level)));
        }
    }
    Ok(chains.into_iter().map(|(_, chain)| chain).collect())
}

impl Chain {
    fn new(points: Points, level: (usize, Level)) -> Chain {
        Chain {
            sums: points.sampled.iter().map(|&it| Sums::new(it)).collect(),
            points,
            levels: vec![level],
            stretch: NOTHING,
            rows: 0,
            weighed_ms: i64::MIN,
            sealed_ms: i64::MIN,
        }
    }

    /// Take a row in; `before` holds each point's last good reading before it, `steps` what the
    /// totalisers counted up to it. Return false when the row came too late for its window.
    pub fn push(&mut self, row: RowView<'_>, before: &[Option<Good>], steps: &[PointStep]) -> bool {
        let at_ms = row.at_ms;
        if at_ms < self.sealed_ms || at_ms < self.stretch.start_ms {
            return false;
        }
        if at_ms >= self.stretch.end_ms {
            self.pass(at_ms, before);
            self.open(at_ms, before);
        }
        let points = self.sums.iter_mut().zip(before).zip(row.values);
        for ((sums, good), value) in points {
            if let Some(good) = good {
                sums.hold(good, self.weighed_ms, at_ms);
            }
            if let Some(value) = value {
                sums.take(*value);
            }
        }
        if row.worst() != GOOD {
            for (sums, &quality) in self.sums.iter_mut().zip(row.qualities) {
                sums.worst = sums.worst.max(quality);
            }
        }
        self.rows += 1;
        // the clock may have been set back inside the window: no time is weighed twice
        self.weighed_ms = self.weighed_ms.max(at_ms);
        self.settle(steps);
        true
    }

    /// The end of the time in which rows only add to the open stretch: if they follow one read at
    /// `last_ms`, in order, have a good value for every point, and no totaliser falls. There is no
    /// such time when this returns `i64::MIN`; `counts` tells whether there are totalisers.
    #[must_use]
    pub fn calm_until_ms(&self, last_ms: i64, counts: bool) -> i64 {
        let Bounds { start_ms, end_ms } = self.stretch;
        let was_taken = last_ms >= self.sealed_ms && last_ms >= start_ms && last_ms < end_ms;
        // what is counted from here on touches the end of no window: all that wait end before
        let is_inside = !counts || last_ms > start_ms;
        if was_taken && is_inside {
            end_ms
        } else {
            i64::MIN
        }
    }

    /// Take in rows that only add to the open stretch, as [`Chain::push`] does with each of them;
    /// `before` holds each point's last good reading before them, all of the row before.
    pub fn push_run(&mut self, rows: Block<'_>, before: &[Option<Good>]) {
        let hold_ms = self.points.period_ms * HOLD_PERIODS;
        let last_ms = before.iter().flatten().map(|good| good.at_ms).next();
        let run = Run::new(rows, last_ms.unwrap_or(i64::MAX), self.weighed_ms, hold_ms);
        run.fold(&mut self.sums, before);
        self.rows += rows.rows() as u32;
        self.weighed_ms = run.weighed_ms();
    }

    /// Settle the ends of the windows that lie within the steps.
    pub fn settle(&mut self, steps: &[PointStep]) {
        let Bounds { start_ms, end_ms } = self.stretch;
        // most steps lie inside one stretch and touch no end, nor a window that ended before it
        let is_inside = |(_, step): &PointStep| {
            step.from_ms > start_ms && step.to_ms < end_ms && step.from <= step.to
        };
        if !steps.iter().all(is_inside) {
            for (_, level) in &mut self.levels {
                level.settle(steps);
            }
        }
    }

    /// Close what ended [`LATENESS_MS`] ago, and put what is complete, or can wait no longer, into
    /// `closed` in the place of its length; `doubted` tells which points wait for a verdict.
    pub fn close_due(
        &mut self,
        now_ms: i64,
        before: &[Option<Good>],
        doubted: &[bool],
        closed: &mut [Vec<WindowRow>],
    ) {
        let settled_ms = now_ms.saturating_sub(LATENESS_MS);
        self.pass(settled_ms, before);
        for (place, level) in &mut self.levels {
            if let Some(closed) = closed.get_mut(*place) {
                closed.append(&mut level.close(settled_ms, doubted, &self.points));
            }
        }
    }

    /// End the windows that have ended by `to_ms`.
    fn pass(&mut self, to_ms: i64, before: &[Option<Good>]) {
        let open = self.levels.iter().filter_map(|(_, level)| level.bounds());
        let ended = open.map(|it| it.end_ms).filter(|&end_ms| end_ms <= to_ms);
        let Some(passed_ms) = ended.max() else {
            return;
        };
        // a longer window never ends inside a shorter one
        if self.stretch != NOTHING {
            self.end_stretch(before);
        }
        self.sealed_ms = passed_ms;
        for (_, level) in &mut self.levels {
            level.hold(passed_ms, before);
            level.end(passed_ms);
        }
    }

    fn end_stretch(&mut self, before: &[Option<Good>]) {
        let end_ms = self.stretch.end_ms;
        for (sums, good) in self.sums.iter_mut().zip(before) {
            if let Some(good) = good {
                sums.hold(good, self.weighed_ms, end_ms);
            }
        }
        for (_, level) in &mut self.levels {
            level.merge(self.rows, &self.sums, end_ms);
        }
        self.sums.iter_mut().for_each(Sums::clear);
        self.rows = 0;
        self.stretch = NOTHING;
    }

    /// Open the windows that `at_ms` lies in.
    fn open(&mut self, at_ms: i64, before: &[Option<Good>]) {
        for (_, level) in self.levels.iter_mut().rev() {
            // the shortest comes last
            self.stretch = level.open(at_ms, &self.points);
        }
        self.weighed_ms = self.stretch.start_ms;
        for (_, level) in &mut self.levels {
            // no row came in what lies before the stretch
            level.hold(self.stretch.start_ms, before);
        }
    }

    /// Append the state to a snapshot.
    pub fn save(&self, out: &mut Vec<u8>) {
        write_i64(out, self.weighed_ms);
        write_i64(out, self.sealed_ms);
        for (_, level) in &self.levels {
            level.save(out, &self.points);
        }
        write_u64(out, u64::from(self.rows));
        if self.rows > 0 {
            self.sums.iter().for_each(|sums| sums.save(out));
        }
    }

    /// Read the state that [`Chain::save`] wrote for windows of the same shape.
    ///
    /// # Errors
    /// `Truncated`, `Corrupt` or `TooLarge`.
    pub fn load(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        self.weighed_ms = reader.i64()?;
        self.sealed_ms = reader.i64()?;
        for (_, level) in &mut self.levels {
            level.load(reader, &self.points)?;
        }
        self.rows = reader.count("rows", u32::MAX as usize)? as u32;
        self.stretch = NOTHING;
        self.sums.iter_mut().for_each(Sums::clear);
        let shortest = self.levels.first().and_then(|(_, level)| level.bounds());
        if shortest.is_some() != (self.rows > 0) {
            return Err(Error::Corrupt {
                at: reader.position(),
                what: "open window",
            });
        }
        if let Some(bounds) = shortest {
            self.stretch = bounds;
            for (sums, &sampled) in self.sums.iter_mut().zip(&self.points.sampled) {
                *sums = Sums::load(reader, sampled)?;
            }
        }
        Ok(())
    }
}
