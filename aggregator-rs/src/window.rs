//! Windows of one length over one group: half-open [start, end), aligned to multiples of the length.
//!
//! A gauge is held from one good reading to the next, at most [`HOLD_PERIODS`] periods and never
//! past a failed one; its mean is weighted by the time it was held. A totaliser's energy is the
//! difference of its values at the window's two ends, each interpolated between the good readings
//! on either side, if they lie within [`BRIDGE_PERIODS`] periods of each other. A totaliser that
//! ran backwards leaves the windows it touched without energy.

use std::collections::VecDeque;

use crate::error::Error;
use crate::reading::Row;
use crate::table::WINDOW_COLUMNS;
use crate::varint::{write_i128, write_i64, write_option, write_u64, Reader};

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
    /// A cumulative register.
    Totaliser,
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

/// One point in one window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Cell {
    slots: u32,
    values: u32,
    min: i64,
    max: i64,
    first: i64,
    last: i64,
    weighted: i128,
    covered_ms: i64,
    opening: Option<i64>,
    closing: Option<i64>,
    ran_backwards: bool,
    worst: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    start_ms: i64,
    cells: Vec<Cell>,
}

/// A finished window: its start, and [`WINDOW_COLUMNS`] values per point.
pub type WindowRow = (i64, Vec<Option<i64>>);

/// The windows of one length over one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    length_ms: i64,
    period_ms: i64,
    kinds: Vec<PointKind>,
    open: Option<Window>,
    /// Past their end, waiting for the reading behind it.
    closing: VecDeque<Window>,
    /// The time up to which held values have been weighed.
    weighed_ms: i64,
    /// No reading before this time can enter a window any more.
    sealed_ms: i64,
}

impl Windows {
    /// Windows of `length_ms` over points of these kinds, read every `period_ms`.
    ///
    /// # Errors
    /// `InvalidArgument` unless both times are positive.
    pub fn new(length_ms: i64, period_ms: i64, kinds: Vec<PointKind>) -> Result<Windows, Error> {
        if length_ms <= 0 || period_ms <= 0 {
            return Err(Error::InvalidArgument(
                "window length and period must be positive",
            ));
        }
        Ok(Windows {
            length_ms,
            period_ms,
            kinds,
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

    /// Take a row in; `before` holds each point's last good reading before it. Return false when the
    /// row came too late for its window.
    pub fn push(&mut self, row: &Row, before: &[Option<Good>]) -> bool {
        let at_ms = row.at_ms;
        let open_start_ms = self.open.as_ref().map_or(i64::MIN, |open| open.start_ms);
        if at_ms < self.sealed_ms || at_ms < open_start_ms {
            return false;
        }
        self.advance(at_ms, before);
        let start_ms = at_ms.div_euclid(self.length_ms) * self.length_ms;
        let mut open = self.open.take().unwrap_or_else(|| Window {
            start_ms,
            cells: vec![Cell::default(); self.kinds.len()],
        });
        self.weigh(&mut open, at_ms, before);
        // the clock may have been set back inside the window: no time is weighed twice
        self.weighed_ms = self.weighed_ms.max(at_ms);
        for (index, value) in row.values.iter().enumerate() {
            let (Some(Some(good)), Some(PointKind::Totaliser), Some(value)) =
                (before.get(index), self.kinds.get(index), value)
            else {
                continue;
            };
            let readings = Readings::new(*good, at_ms, *value);
            for window in self.closing.iter_mut().chain([&mut open]) {
                let start_ms = window.start_ms;
                let bridge_ms = self.period_ms * BRIDGE_PERIODS;
                if let Some(cell) = window.cells.get_mut(index) {
                    readings.settle(cell, start_ms, start_ms + self.length_ms, bridge_ms);
                }
            }
        }
        for ((cell, value), quality) in open.cells.iter_mut().zip(&row.values).zip(&row.qualities) {
            cell.take(*value, *quality);
        }
        self.open = Some(open);
        true
    }

    /// Close what ended [`LATENESS_MS`] ago and return, oldest first, the windows that are complete
    /// or can wait no longer for the reading behind their end.
    pub fn close_due(&mut self, now_ms: i64, before: &[Option<Good>]) -> Vec<WindowRow> {
        let settled_ms = now_ms.saturating_sub(LATENESS_MS);
        let ended = self
            .open
            .as_ref()
            .is_some_and(|open| open.start_ms + self.length_ms <= settled_ms);
        if ended {
            self.advance(settled_ms, before);
        }
        let mut rows = Vec::new();
        while let Some(window) = self.closing.front() {
            let waited_ms = settled_ms - (window.start_ms + self.length_ms);
            let settled = window
                .cells
                .iter()
                .zip(&self.kinds)
                .all(|(cell, kind)| cell.is_settled(*kind));
            if !settled && waited_ms < self.period_ms * BRIDGE_PERIODS {
                break;
            }
            if let Some(window) = self.closing.pop_front() {
                rows.push((window.start_ms, self.finish(&window)));
            }
        }
        rows
    }

    /// Move the open window to `closing` when `to_ms` lies at or behind its end.
    fn advance(&mut self, to_ms: i64, before: &[Option<Good>]) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        let end_ms = open.start_ms + self.length_ms;
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
        let from_ms = self.weighed_ms.max(window.start_ms);
        for (cell, good) in window.cells.iter_mut().zip(before) {
            let Some(good) = good else { continue };
            let from_ms = from_ms.max(good.at_ms);
            let span_ms = to_ms.min(good.held_until_ms) - from_ms;
            if span_ms > 0 {
                cell.weighted += i128::from(good.value) * i128::from(span_ms);
                cell.covered_ms += span_ms;
            }
        }
    }

    fn finish(&self, window: &Window) -> Vec<Option<i64>> {
        let mut row = Vec::with_capacity(self.kinds.len() * WINDOW_COLUMNS);
        for (cell, kind) in window.cells.iter().zip(&self.kinds) {
            row.extend_from_slice(&cell.finish(*kind));
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
            write_i64(out, window.start_ms);
            for cell in &window.cells {
                cell.save(out);
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
            let cells = (0..self.kinds.len())
                .map(|_| Cell::load(reader))
                .collect::<Result<_, _>>()?;
            let window = Window { start_ms, cells };
            if index < open {
                self.open = Some(window);
            } else {
                self.closing.push_back(window);
            }
        }
        Ok(())
    }
}

/// Two neighbouring good readings of a totaliser.
struct Readings {
    from_ms: i64,
    from: i64,
    to_ms: i64,
    to: i64,
}

impl Readings {
    fn new(before: Good, at_ms: i64, value: i64) -> Readings {
        Readings {
            from_ms: before.at_ms,
            from: before.value,
            to_ms: at_ms,
            to: value,
        }
    }

    /// Settle the ends of a window that lie between the two readings.
    fn settle(&self, cell: &mut Cell, start_ms: i64, end_ms: i64, bridge_ms: i64) {
        if self.to < self.from {
            if start_ms <= self.to_ms && end_ms > self.from_ms {
                cell.ran_backwards = true;
            }
            return;
        }
        if self.to_ms - self.from_ms > bridge_ms {
            return;
        }
        cell.opening = cell.opening.or_else(|| self.at(start_ms));
        cell.closing = cell.closing.or_else(|| self.at(end_ms));
    }

    /// The totaliser's value at `ms`, if that lies between the two readings or at one of them. Two
    /// readings of one moment (a clock set back) have nothing between them.
    fn at(&self, ms: i64) -> Option<i64> {
        if ms < self.from_ms || ms > self.to_ms || self.from_ms == self.to_ms {
            return None;
        }
        let rise = i128::from(self.to) - i128::from(self.from);
        let share = rise * i128::from(ms - self.from_ms);
        let step = divide(share, i128::from(self.to_ms - self.from_ms));
        i64::try_from(i128::from(self.from) + step).ok()
    }
}

impl Cell {
    fn take(&mut self, value: Option<i64>, quality: u8) {
        self.slots += 1;
        self.worst = self.worst.max(quality);
        let Some(value) = value else { return };
        if self.values == 0 {
            self.first = value;
            self.min = value;
            self.max = value;
        }
        self.values += 1;
        self.last = value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Whether a later reading can still change the energy.
    fn is_settled(&self, kind: PointKind) -> bool {
        kind == PointKind::Gauge || self.closing.is_some() || self.ran_backwards
    }

    fn energy(&self) -> Option<i64> {
        match (self.opening, self.closing, self.ran_backwards) {
            (Some(opening), Some(closing), false) => closing.checked_sub(opening),
            _ => None,
        }
    }

    fn finish(&self, kind: PointKind) -> [Option<i64>; WINDOW_COLUMNS] {
        let any = (self.values > 0).then_some(());
        let gauge = (kind == PointKind::Gauge).then_some(());
        let mean = (self.covered_ms > 0)
            .then(|| divide(self.weighted * MEAN_SCALE, i128::from(self.covered_ms)))
            .and_then(|mean| i64::try_from(mean).ok());
        [
            Some(i64::from(self.slots)),
            Some(i64::from(self.values)),
            any.and(gauge).map(|()| self.min),
            any.and(gauge).map(|()| self.max),
            gauge.and(mean),
            any.map(|()| self.first),
            any.map(|()| self.last),
            if gauge.is_some() { None } else { self.energy() },
            Some(self.covered_ms),
            Some(i64::from(self.worst)),
        ]
    }

    fn save(&self, out: &mut Vec<u8>) {
        write_u64(out, u64::from(self.slots));
        write_u64(out, u64::from(self.values));
        for value in [self.min, self.max, self.first, self.last, self.covered_ms] {
            write_i64(out, value);
        }
        write_i128(out, self.weighted);
        write_option(out, self.opening);
        write_option(out, self.closing);
        out.push(u8::from(self.ran_backwards));
        out.push(self.worst);
    }

    fn load(reader: &mut Reader<'_>) -> Result<Cell, Error> {
        Ok(Cell {
            slots: reader.count("slots", u32::MAX as usize)? as u32,
            values: reader.count("values", u32::MAX as usize)? as u32,
            min: reader.i64()?,
            max: reader.i64()?,
            first: reader.i64()?,
            last: reader.i64()?,
            covered_ms: reader.i64()?,
            weighted: reader.i128()?,
            opening: reader.option()?,
            closing: reader.option()?,
            ran_backwards: reader.byte()? != 0,
            worst: reader.byte()?,
        })
    }
}

/// Divide by a positive divisor, to nearest, halves to even.
fn divide(dividend: i128, divisor: i128) -> i128 {
    let quotient = dividend.div_euclid(divisor);
    let twice = dividend.rem_euclid(divisor) * 2;
    let up = twice > divisor || (twice == divisor && quotient.rem_euclid(2) == 1);
    quotient + i128::from(up)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_round_to_even_on_both_sides_of_zero() {
        let rounded: Vec<i128> = [-5, -3, -1, 1, 3, 5].map(|n| divide(n, 2)).to_vec();
        assert_eq!(rounded, [-2, -2, 0, 0, 2, 2]);
    }
}
