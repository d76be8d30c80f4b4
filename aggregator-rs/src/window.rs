//! Windows of one length over one group: half-open [start, end), where [`crate::calendar`] puts them.
//!
//! A gauge is held from one good reading to the next, at most [`HOLD_PERIODS`] periods and never
//! past a failed one; its mean is weighted by the time it was held. A totaliser's energy is the
//! difference of its totals at the window's two ends, each interpolated between the good readings
//! on either side, if they lie within [`BRIDGE_PERIODS`] periods of each other. One without a guard
//! that ran backwards leaves the windows it touched without energy; one with a guard is judged (see
//! [`crate::totaliser`]), and windows wait for the verdict.

mod cell;

use std::collections::VecDeque;
use std::sync::Arc;

use cell::Cell;

use crate::calendar::{Bounds, Calendar, Span};
use crate::error::Error;
use crate::reading::Row;
use crate::table::WINDOW_COLUMNS;
use crate::totaliser::{doubt_ms, Guard, Step};
use crate::varint::{write_i64, write_u64, Reader};

/// How long a value stands for its point, in periods.
pub const HOLD_PERIODS: i64 = 2;
/// Longest distance of the two readings that a boundary value is interpolated between, in periods.
pub const BRIDGE_PERIODS: i64 = 3;
/// A window stays open this long past its end, for readings that are still under way.
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

#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    bounds: Bounds,
    cells: Vec<Cell>,
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

/// The windows of one length over one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    length_ms: i64,
    period_ms: i64,
    kinds: Vec<PointKind>,
    /// Which points have statistics.
    sampled: Vec<bool>,
    calendar: Arc<Calendar>,
    open: Option<Window>,
    /// Past their end, waiting for the reading behind it.
    closing: VecDeque<Window>,
    /// The time up to which held values have been weighed.
    weighed_ms: i64,
    /// No reading before this time can enter a window any more.
    sealed_ms: i64,
}

impl Windows {
    /// Windows of `length_ms` over points of these kinds, read every `period_ms`; `sampled` tells,
    /// for each of them, whether it has statistics.
    ///
    /// # Errors
    /// `InvalidArgument` unless both times are positive.
    pub fn new(
        length_ms: i64,
        period_ms: i64,
        kinds: Vec<PointKind>,
        sampled: Vec<bool>,
        calendar: Arc<Calendar>,
    ) -> Result<Windows, Error> {
        if length_ms <= 0 || period_ms <= 0 {
            return Err(Error::InvalidArgument(
                "window length and period must be positive",
            ));
        }
        Ok(Windows {
            length_ms,
            period_ms,
            kinds,
            sampled,
            calendar,
            open: None,
            closing: VecDeque::new(),
            weighed_ms: i64::MIN,
            sealed_ms: i64::MIN,
        })
    }

    /// The length in milliseconds.
    #[must_use]
    pub fn length_ms(&self) -> i64 {
        self.length_ms
    }

    /// Take a row in; `before` holds each point's last good reading before it, `steps` what the
    /// totalisers counted up to it. Return false when the row came too late for its window.
    pub fn push(&mut self, row: &Row, before: &[Option<Good>], steps: &[PointStep]) -> bool {
        let at_ms = row.at_ms;
        let open_start_ms = self
            .open
            .as_ref()
            .map_or(i64::MIN, |open| open.bounds.start_ms);
        if at_ms < self.sealed_ms || at_ms < open_start_ms {
            return false;
        }
        self.advance(at_ms, before);
        let mut open = self.open.take().unwrap_or_else(|| Window {
            bounds: self.bounds(at_ms),
            cells: self.sampled.iter().map(|&it| Cell::new(it)).collect(),
        });
        self.weigh(&mut open, at_ms, before);
        // the clock may have been set back inside the window: no time is weighed twice
        self.weighed_ms = self.weighed_ms.max(at_ms);
        for ((cell, value), quality) in open.cells.iter_mut().zip(&row.values).zip(&row.qualities) {
            cell.take(*value, *quality);
        }
        self.open = Some(open);
        self.settle(steps);
        true
    }

    /// Settle the ends of the windows that lie within the steps.
    pub fn settle(&mut self, steps: &[PointStep]) {
        for window in self.closing.iter_mut().chain(&mut self.open) {
            for (point, step) in steps {
                if let Some(cell) = window.cells.get_mut(*point) {
                    cell.settle(step, window.bounds);
                }
            }
        }
    }

    /// Close what ended [`LATENESS_MS`] ago and return, oldest first, the windows that are complete
    /// or can wait no longer for the reading behind their end, or for the verdict on a point that
    /// is `doubted`.
    pub fn close_due(
        &mut self,
        now_ms: i64,
        before: &[Option<Good>],
        doubted: &[bool],
    ) -> Vec<WindowRow> {
        let settled_ms = now_ms.saturating_sub(LATENESS_MS);
        let ended = self
            .open
            .as_ref()
            .is_some_and(|open| open.bounds.end_ms <= settled_ms);
        if ended {
            self.advance(settled_ms, before);
        }
        let mut rows = Vec::new();
        while let Some(window) = self.closing.front() {
            let waited_ms = settled_ms - window.bounds.end_ms;
            // a doubt that can still settle this end began at most a bridge behind it
            let bridge_ms = self.period_ms * BRIDGE_PERIODS;
            let verdict_ms = bridge_ms + doubt_ms(bridge_ms);
            let awaited = window.cells.iter().zip(&self.kinds).enumerate();
            let awaited = awaited.filter(|(_, (cell, kind))| !cell.is_settled(**kind));
            let longest_ms = awaited.map(|(point, _)| match doubted.get(point) {
                Some(true) => verdict_ms,
                _ => bridge_ms,
            });
            if longest_ms
                .max()
                .is_some_and(|longest_ms| waited_ms < longest_ms)
            {
                break;
            }
            if let Some(window) = self.closing.pop_front() {
                rows.push(self.finish(&window));
            }
        }
        rows
    }

    fn bounds(&self, at_ms: i64) -> Bounds {
        self.calendar.bounds(at_ms, Span::Length(self.length_ms))
    }

    /// Move the open window to `closing` when `to_ms` lies at or behind its end.
    fn advance(&mut self, to_ms: i64, before: &[Option<Good>]) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        let end_ms = open.bounds.end_ms;
        if to_ms < end_ms {
            self.open = Some(open);
            return;
        }
        self.weigh(&mut open, end_ms, before);
        self.weighed_ms = end_ms;
        self.sealed_ms = end_ms;
        self.closing.push_back(open);
    }

    /// Add the held values' share of time up to `to_ms` to `window`.
    fn weigh(&self, window: &mut Window, to_ms: i64, before: &[Option<Good>]) {
        let from_ms = self.weighed_ms.max(window.bounds.start_ms);
        for (cell, good) in window.cells.iter_mut().zip(before) {
            let Some(good) = good else { continue };
            let from_ms = from_ms.max(good.at_ms);
            let span_ms = to_ms.min(good.held_until_ms) - from_ms;
            if span_ms > 0 {
                cell.hold(good.value, span_ms);
            }
        }
    }

    fn finish(&self, window: &Window) -> WindowRow {
        let mut row = WindowRow {
            start_ms: window.bounds.start_ms,
            values: Vec::with_capacity(self.kinds.len() * WINDOW_COLUMNS),
            uncertainties: Vec::new(),
            statistics: Vec::new(),
        };
        for (cell, kind) in window.cells.iter().zip(&self.kinds) {
            row.values.extend_from_slice(&cell.finish(*kind));
            row.statistics.extend(cell.statistics().iter().flatten());
            if kind.is_guarded() {
                let uncertainty = cell.energy().map(|(_, uncertainty)| uncertainty);
                row.uncertainties.push(uncertainty);
            }
        }
        row
    }

    /// Append the state to a snapshot.
    pub fn save(&self, out: &mut Vec<u8>) {
        write_i64(out, self.weighed_ms);
        write_i64(out, self.sealed_ms);
        write_u64(out, u64::from(self.open.is_some()));
        write_u64(out, self.closing.len() as u64);
        for window in self.open.iter().chain(&self.closing) {
            write_i64(out, window.bounds.start_ms);
            for (cell, kind) in window.cells.iter().zip(&self.kinds) {
                cell.save(out, *kind);
            }
        }
    }

    /// Read the state that [`Windows::save`] wrote for windows of the same shape.
    ///
    /// # Errors
    /// `Truncated`, `Corrupt` or `TooLarge`.
    pub fn load(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        self.weighed_ms = reader.i64()?;
        self.sealed_ms = reader.i64()?;
        let open = reader.count("open windows", 1)?;
        let closing = reader.count("closing windows", 1 << 16)?;
        self.open = None;
        self.closing.clear();
        for index in 0..open + closing {
            let start_ms = reader.i64()?;
            let points = self.kinds.iter().zip(&self.sampled);
            let cells = points.map(|(kind, sampled)| Cell::load(reader, *kind, *sampled));
            let cells = cells.collect::<Result<_, _>>()?;
            let bounds = Bounds {
                start_ms,
                end_ms: self.bounds(start_ms).end_ms,
            };
            let window = Window { bounds, cells };
            if index < open {
                self.open = Some(window);
            } else {
                self.closing.push_back(window);
            }
        }
        Ok(())
    }
}
