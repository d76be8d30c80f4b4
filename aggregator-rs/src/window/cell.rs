//! One point in one window: what is known of it while rows come in, and its columns at the end.

use super::{PointKind, MEAN_SCALE};
use crate::calendar::Bounds;
use crate::error::Error;
use crate::moments::Moments;
use crate::quantile::Sample;
use crate::rounding::divide_half_even;
use crate::table::{STATISTICS_COLUMNS, WINDOW_COLUMNS};
use crate::totaliser::{Bound, Step};
use crate::varint::{write_i128, write_i64, write_option, write_u64, Reader};

/// What only points that are asked for it keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Statistics {
    moments: Moments,
    sample: Sample,
}

impl Statistics {
    fn load(reader: &mut Reader<'_>) -> Result<Statistics, Error> {
        Ok(Statistics {
            moments: Moments::load(reader)?,
            sample: Sample::load(reader)?,
        })
    }
}

/// One point in one window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell {
    slots: u32,
    values: u32,
    min: i64,
    max: i64,
    first: i64,
    last: i64,
    weighted: i128,
    covered_ms: i64,
    opening: Option<Bound>,
    closing: Option<Bound>,
    ran_backwards: bool,
    worst: u8,
    /// Where they are asked for.
    statistics: Option<Box<Statistics>>,
}

impl Cell {
    /// Nothing yet; with or without statistics.
    pub(super) fn new(with_statistics: bool) -> Cell {
        Cell {
            statistics: with_statistics.then(Box::default),
            ..Cell::default()
        }
    }

    /// Add a value that was held for a time.
    pub(super) fn hold(&mut self, value: i64, span_ms: i64) {
        self.weighted += i128::from(value) * i128::from(span_ms);
        self.covered_ms += span_ms;
        if let Some(statistics) = &mut self.statistics {
            statistics.moments.hold(value, span_ms);
        }
    }

    /// Standard deviation, middle value, and the value that 95 of 100 do not exceed.
    pub(super) fn statistics(&self) -> Option<[Option<i64>; STATISTICS_COLUMNS]> {
        let statistics = self.statistics.as_ref()?;
        let [middle, high] = statistics.sample.quantiles([50, 95]);
        Some([statistics.moments.deviation(), middle, high])
    }

    /// Take in a slot: a value, or a reason why there is none.
    pub(super) fn take(&mut self, value: Option<i64>, quality: u8) {
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
        if let Some(statistics) = &mut self.statistics {
            statistics.sample.push(value);
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

    /// The columns of a table of windows.
    pub(super) fn finish(&self, kind: PointKind) -> [Option<i64>; WINDOW_COLUMNS] {
        let any = (self.values > 0).then_some(());
        let gauge = (kind == PointKind::Gauge).then_some(());
        let mean = (self.covered_ms > 0)
            .then(|| divide_half_even(self.weighted * MEAN_SCALE, i128::from(self.covered_ms)))
            .and_then(|mean| i64::try_from(mean).ok());
        [
            Some(i64::from(self.slots)),
            Some(i64::from(self.values)),
            any.and(gauge).map(|()| self.min),
            any.and(gauge).map(|()| self.max),
            gauge.and(mean),
            any.map(|()| self.first),
            any.map(|()| self.last),
            if gauge.is_some() {
                None
            } else {
                self.energy().map(|(energy, _)| energy)
            },
            Some(self.covered_ms),
            Some(i64::from(self.worst)),
        ]
    }

    /// Append the state to a snapshot.
    pub(super) fn save(&self, out: &mut Vec<u8>, kind: PointKind) {
        write_u64(out, u64::from(self.slots));
        write_u64(out, u64::from(self.values));
        for value in [self.min, self.max, self.first, self.last, self.covered_ms] {
            write_i64(out, value);
        }
        write_i128(out, self.weighted);
        for bound in [self.opening, self.closing] {
            write_option(out, bound.map(|bound| bound.total));
            if kind.is_guarded() {
                write_i64(out, bound.map_or(0, |bound| bound.uncertainty));
            }
        }
        out.push(u8::from(self.ran_backwards));
        out.push(self.worst);
        if let Some(statistics) = &self.statistics {
            statistics.moments.save(out);
            statistics.sample.save(out);
        }
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
            slots: reader.count("slots", u32::MAX as usize)? as u32,
            values: reader.count("values", u32::MAX as usize)? as u32,
            min: reader.i64()?,
            max: reader.i64()?,
            first: reader.i64()?,
            last: reader.i64()?,
            covered_ms: reader.i64()?,
            weighted: reader.i128()?,
            opening: bound(reader)?,
            closing: bound(reader)?,
            ran_backwards: reader.byte()? != 0,
            worst: reader.byte()?,
            statistics: if with_statistics {
                Some(Box::new(Statistics::load(reader)?))
            } else {
                None
            },
        })
    }
}
