//! One point in one window: what its stretches come to, the totals at its two ends, and its columns
//! when it is over.

use super::sums::Sums;
use super::{PointKind, MEAN_SCALE};
use crate::calendar::Bounds;
use crate::error::Error;
use crate::rounding::divide_half_even;
use crate::table::WINDOW_COLUMNS;
use crate::totaliser::{Bound, Step};
use crate::varint::{write_i64, write_option, Reader};

/// One point in one window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) sums: Sums,
    opening: Option<Bound>,
    closing: Option<Bound>,
    ran_backwards: bool,
}

impl Cell {
    /// Nothing yet; with or without statistics.
    pub(super) fn new(with_statistics: bool) -> Cell {
        Cell {
            sums: Sums::new(with_statistics),
            ..Cell::default()
        }
    }

    /// Settle the ends of the cell's window that lie within the step.
    pub(super) fn settle(&mut self, step: &Step, window: Bounds) {
        let Bounds { start_ms, end_ms } = window;
        if step.to < step.from {
            self.ran_backwards |= start_ms <= step.to_ms && end_ms > step.from_ms;
            return;
        }
        self.opening = self.opening.or_else(|| step.bound_at(start_ms));
        self.closing = self.closing.or_else(|| step.bound_at(end_ms));
    }

    /// Whether a later reading can still change the energy.
    pub(super) fn is_settled(&self, kind: PointKind) -> bool {
        kind == PointKind::Gauge || self.closing.is_some() || self.ran_backwards
    }

    /// What was counted, and how far the truth can be from it.
    pub(super) fn energy(&self) -> Option<(i64, i64)> {
        let (opening, closing) = (self.opening?, self.closing?);
        let energy = closing.total.checked_sub(opening.total)?;
        let uncertainty = opening.uncertainty.saturating_add(closing.uncertainty);
        // a clock set back can settle the end before the start
        (!self.ran_backwards && energy >= 0).then_some((energy, uncertainty))
    }

    /// The columns of a table of windows, for a window of so many rows.
    pub(super) fn finish(&self, kind: PointKind, rows: u32) -> [Option<i64>; WINDOW_COLUMNS] {
        let sums = &self.sums;
        let any = (sums.values > 0).then_some(());
        let gauge = (kind == PointKind::Gauge).then_some(());
        let mean = (sums.covered_ms > 0)
            .then(|| divide_half_even(sums.weighted * MEAN_SCALE, i128::from(sums.covered_ms)))
            .and_then(|mean| i64::try_from(mean).ok());
        [
            Some(i64::from(rows)),
            Some(i64::from(sums.values)),
            any.and(gauge).map(|()| sums.min),
            any.and(gauge).map(|()| sums.max),
            gauge.and(mean),
            any.map(|()| sums.first),
            any.map(|()| sums.last),
            if gauge.is_some() {
                None
            } else {
                self.energy().map(|(energy, _)| energy)
            },
            Some(sums.covered_ms),
            Some(i64::from(sums.worst)),
        ]
    }

    /// Append the state to a snapshot.
    pub(super) fn save(&self, out: &mut Vec<u8>, kind: PointKind) {
        self.sums.save(out);
        for bound in [self.opening, self.closing] {
            write_option(out, bound.map(|bound| bound.total));
            if kind.is_guarded() {
                write_i64(out, bound.map_or(0, |bound| bound.uncertainty));
            }
        }
        out.push(u8::from(self.ran_backwards));
    }

    /// Read what [`Cell::save`] wrote for such a point.
    pub(super) fn load(
        reader: &mut Reader<'_>,
        kind: PointKind,
        with_statistics: bool,
    ) -> Result<Cell, Error> {
        let bound = |reader: &mut Reader<'_>| {
            let total = reader.option()?;
            let uncertainty = if kind.is_guarded() { reader.i64()? } else { 0 };
            Ok(total.map(|total| Bound { total, uncertainty }))
        };
        Ok(Cell {
            sums: Sums::load(reader, with_statistics)?,
            opening: bound(reader)?,
            closing: bound(reader)?,
            ran_backwards: reader.byte()? != 0,
        })
    }
}
