//! The windows of one length: the open one, and those that wait for the reading behind their end.

use std::collections::VecDeque;
use std::sync::Arc;

use super::cell::Cell;
use super::sums::Sums;
use super::{Good, PointKind, PointStep, WindowRow, BRIDGE_PERIODS};
use crate::calendar::{Bounds, Calendar, Span};
use crate::error::Error;
use crate::table::{STATISTICS_COLUMNS, WINDOW_COLUMNS};
use crate::totaliser::doubt_ms;
use crate::varint::{write_i64, write_option, write_u64, Reader};

/// The points of the group that windows are made over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Points {
    pub(super) period_ms: i64,
    pub(super) kinds: Vec<PointKind>,
    /// Which points have statistics.
    pub(super) sampled: Vec<bool>,
    pub(super) calendar: Arc<Calendar>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    bounds: Bounds,
    rows: u32,
    /// The time up to which held values have been weighed.
    weighed_ms: i64,
    cells: Vec<Cell>,
    /// [`STATISTICS_COLUMNS`] values per point that has statistics, once it has ended: no value
    /// comes to them any more, and the values they are made of take much memory.
    statistics: Vec<Option<i64>>,
}

/// The windows of one length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Level {
    length_ms: i64,
    /// Whether its windows are one stretch each: then they take the statistics of that.
    is_shortest: bool,
    open: Option<Window>,
    /// Past their end.
    closing: VecDeque<Window>,
}

impl Level {
    pub(super) fn new(length_ms: i64, is_shortest: bool) -> Level {
        Level {
            length_ms,
            is_shortest,
            open: None,
            closing: VecDeque::new(),
        }
    }

    /// Where the open window lies.
    pub(super) fn bounds(&self) -> Option<Bounds> {
        self.open.as_ref().map(|open| open.bounds)
    }

    /// Open the window that `at_ms` lies in, unless one is open; return its bounds.
    pub(super) fn open(&mut self, at_ms: i64, points: &Points) -> Bounds {
        let new_cell = |sampled: bool| Cell::new(sampled && !self.is_shortest);
        let open = self.open.get_or_insert_with(|| {
            let bounds = points.calendar.bounds(at_ms, Span::of(self.length_ms));
            Window {
                bounds,
                rows: 0,
                weighed_ms: bounds.start_ms,
                cells: points.sampled.iter().map(|&it| new_cell(it)).collect(),
                statistics: Vec::new(),
            }
        });
        open.bounds
    }

    /// Give the open window its share of the time up to `to_ms` in which no row came.
    pub(super) fn hold(&mut self, to_ms: i64, before: &[Option<Good>]) {
        let Some(open) = &mut self.open else { return };
        let to_ms = to_ms.min(open.bounds.end_ms);
        for (cell, good) in open.cells.iter_mut().zip(before) {
            if let Some(good) = good {
                cell.sums.hold(good, open.weighed_ms, to_ms);
            }
        }
        open.weighed_ms = open.weighed_ms.max(to_ms);
    }

    /// Add the stretch of the open window that ends at `end_ms`.
    pub(super) fn merge(&mut self, rows: u32, sums: &[Sums], end_ms: i64) {
        let Some(open) = &mut self.open else { return };
        open.rows = open.rows.saturating_add(rows);
        open.weighed_ms = end_ms;
        for (cell, sums) in open.cells.iter_mut().zip(sums) {
            cell.sums.merge(sums);
        }
        if self.is_shortest {
            open.statistics = sums.iter().filter_map(Sums::figures).flatten().collect();
        }
    }

    /// Move the open window to `closing` when it has ended by `to_ms`.
    pub(super) fn end(&mut self, to_ms: i64) {
        let ended = |open: &mut Window| open.bounds.end_ms <= to_ms;
        let mut ended = self.open.take_if(ended);
        if let Some(window) = ended.as_mut().filter(|_| !self.is_shortest) {
            let figures = |cell: &mut Cell| cell.sums.take_figures();
            let figures = window.cells.iter_mut().filter_map(figures);
            window.statistics = figures.flatten().collect();
        }
        self.closing.extend(ended);
    }

    /// Settle the ends of the windows that lie within the steps.
    pub(super) fn settle(&mut self, steps: &[PointStep]) {
        for window in self.closing.iter_mut().chain(&mut self.open) {
            for (point, step) in steps {
                if let Some(cell) = window.cells.get_mut(*point) {
                    cell.settle(step, window.bounds);
                }
            }
        }
    }

    /// Return, oldest first, the windows that have ended by `settled_ms` and are complete, or can
    /// wait no longer for the reading behind their end or for the verdict on a point that is
    /// `doubted`.
    pub(super) fn close(
        &mut self,
        settled_ms: i64,
        doubted: &[bool],
        points: &Points,
    ) -> Vec<WindowRow> {
        let mut rows = Vec::new();
        let is_complete = |window: &Window| !window.waits(settled_ms, doubted, points);
        while self.closing.front().is_some_and(is_complete) {
            let complete = self.closing.pop_front();
            rows.extend(complete.map(|window| window.finish(&points.kinds)));
        }
        rows
    }

    /// Append the state to a snapshot.
    pub(super) fn save(&self, out: &mut Vec<u8>, points: &Points) {
        write_u64(out, u64::from(self.open.is_some()));
        write_u64(out, self.closing.len() as u64);
        for window in self.open.iter().chain(&self.closing) {
            write_i64(out, window.bounds.start_ms);
            write_u64(out, u64::from(window.rows));
            write_i64(out, window.weighed_ms);
            for (cell, kind) in window.cells.iter().zip(&points.kinds) {
                cell.save(out, *kind);
            }
        }
        for figure in self.closing.iter().flat_map(|window| &window.statistics) {
            write_option(out, *figure);
        }
    }

    /// Read the state that [`Level::save`] wrote for windows of the same shape.
    pub(super) fn load(&mut self, reader: &mut Reader<'_>, points: &Points) -> Result<(), Error> {
        let open = reader.count("open windows", 1)?;
        let closing = reader.count("closing windows", 1 << 16)?;
        self.open = None;
        self.closing.clear();
        for index in 0..open + closing {
            let is_open = index < open;
            let start_ms = reader.i64()?;
            let rows = reader.count("rows", u32::MAX as usize)? as u32;
            let weighed_ms = reader.i64()?;
            let shapes = points.kinds.iter().zip(&points.sampled);
            let cells = shapes.map(|(kind, sampled)| {
                Cell::load(reader, *kind, *sampled && is_open && !self.is_shortest)
            });
            let window = Window {
                cells: cells.collect::<Result<_, _>>()?,
                bounds: Bounds {
                    start_ms,
                    ..points.calendar.bounds(start_ms, Span::of(self.length_ms))
                },
                rows,
                weighed_ms,
                statistics: Vec::new(),
            };
            if is_open {
                self.open = Some(window);
            } else {
                self.closing.push_back(window);
            }
        }
        let sampled = points.sampled.iter().filter(|&&it| it).count();
        for window in &mut self.closing {
            let figures = (0..sampled * STATISTICS_COLUMNS).map(|_| reader.option());
            window.statistics = figures.collect::<Result<_, _>>()?;
        }
        Ok(())
    }
}

impl Window {
    /// Whether it has not ended, or a reading or a verdict may still come that settles its end.
    fn waits(&self, settled_ms: i64, doubted: &[bool], points: &Points) -> bool {
        // a doubt that can still settle this end began at most a bridge behind it
        let bridge_ms = points.period_ms * BRIDGE_PERIODS;
        let verdict_ms = bridge_ms + doubt_ms(bridge_ms);
        let awaited = self.cells.iter().zip(&points.kinds).enumerate();
        let awaited = awaited.filter(|(_, (cell, kind))| !cell.is_settled(**kind));
        let longest_ms = awaited.map(|(point, _)| match doubted.get(point) {
            Some(true) => verdict_ms,
            _ => bridge_ms,
        });
        // a reading from ahead of the time ends a window, but until its time has come the clock may
        // still be set back, and what is counted then be found to have fallen
        let waited_ms = settled_ms.saturating_sub(self.bounds.end_ms);
        waited_ms < longest_ms.max().unwrap_or(0)
    }

    fn finish(self, kinds: &[PointKind]) -> WindowRow {
        let mut row = WindowRow {
            start_ms: self.bounds.start_ms,
            values: Vec::with_capacity(kinds.len() * WINDOW_COLUMNS),
            uncertainties: Vec::new(),
            statistics: self.statistics,
        };
        for (cell, kind) in self.cells.iter().zip(kinds) {
            row.values.extend_from_slice(&cell.finish(*kind, self.rows));
            if kind.is_guarded() {
                let uncertainty = cell.energy().map(|(_, uncertainty)| uncertainty);
                row.uncertainties.push(uncertainty);
            }
        }
        row
    }
}
