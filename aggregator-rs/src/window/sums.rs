//! What the rows of a stretch of time come to for one point, so that neighbouring stretches add up
//! to the whole without an error: counts, extremes, exact sums, and the values at the two ends.

use super::Good;
use crate::error::Error;
use crate::moments::Moments;
use crate::quantile::Sample;
use crate::table::STATISTICS_COLUMNS;
use crate::varint::{write_i128, write_i64, write_u64, Reader};

/// What only points that are asked for it keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Statistics {
    pub(super) moments: Moments,
    pub(super) sample: Sample,
}

/// One point over a stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// Slots with a value; without any, the extremes and ends mean nothing.
    pub(super) values: u32,
    /// The highest quality number.
    pub(super) worst: u8,
    pub(super) min: i64,
    pub(super) max: i64,
    pub(super) first: i64,
    pub(super) last: i64,
    /// Value times the time it was held.
    pub(super) weighted: i128,
    pub(super) covered_ms: i64,
    /// Where they are asked for.
    pub(super) statistics: Option<Box<Statistics>>,
}

/// The values of one point in a run of rows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Column {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) min: i64,
    pub(super) max: i64,
    /// Value times the time it was held; wrapped where 64 bits do not hold it.
    pub(super) weighted: i64,
}

impl Column {
    /// Begin with the first value.
    #[inline]
    pub(super) fn begin(&mut self, value: i64) {
        self.first = value;
        self.min = value;
        self.max = value;
    }

    /// Take in a value.
    #[inline]
    pub(super) fn take(&mut self, value: i64) {
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Take in that a value was held for so long.
    #[inline]
    pub(super) fn weigh(&mut self, value: i64, span_ms: i64) {
        self.weighted = self.weighted.wrapping_add(value.wrapping_mul(span_ms));
    }

    /// The largest magnitude of its values and of the one before.
    fn magnitude(&self, before: i64) -> u64 {
        let magnitudes = [self.min, self.max, before].map(i64::unsigned_abs);
        magnitudes.into_iter().fold(0, u64::max)
    }
}

impl Sums {
    /// Nothing yet; with or without statistics.
    pub(super) fn new(with_statistics: bool) -> Sums {
        Sums {
            statistics: with_statistics.then(Box::default),
            ..Sums::default()
        }
    }

    /// Start again from nothing.
    pub(super) fn clear(&mut self) {
        let mut statistics = self.statistics.take();
        if let Some(statistics) = &mut statistics {
            statistics.moments = Moments::default();
            statistics.sample.clear();
        }
        *self = Sums {
            statistics,
            ..Sums::default()
        };
    }

    /// Standard deviation, middle value, and the value that 95 of 100 do not exceed, where they are
    /// asked for.
    pub(super) fn figures(&self) -> Option<[Option<i64>; STATISTICS_COLUMNS]> {
        let statistics = self.statistics.as_ref()?;
        let [middle, high] = statistics.sample.quantiles((self.min, self.max), [50, 95]);
        Some([statistics.moments.deviation(), middle, high])
    }

    /// The same, when nothing comes any more: what they are made of is let go.
    pub(super) fn take_figures(&mut self) -> Option<[Option<i64>; STATISTICS_COLUMNS]> {
        let figures = self.figures();
        self.statistics = None;
        figures
    }

    /// Weigh the value that is held, for the part of the time that it stands for its point.
    #[inline]
    pub(super) fn hold(&mut self, good: &Good, from_ms: i64, to_ms: i64) {
        let span_ms = to_ms.min(good.held_until_ms) - from_ms.max(good.at_ms);
        if span_ms <= 0 {
            return;
        }
        self.weighted += i128::from(good.value) * i128::from(span_ms);
        self.covered_ms += span_ms;
        if let Some(statistics) = &mut self.statistics {
            statistics.moments.hold(good.value, span_ms);
        }
    }

    /// Take in a value.
    #[inline]
    pub(super) fn take(&mut self, value: i64) {
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

    /// Add a run of values, one at least; `before` is the value before them, and `spans_ms` how long
    /// it and each of them but the last counts, in all `covered_ms`.
    ///
    /// Return false, with nothing added, where the sums may not fit what they were made in.
    pub(super) fn add(
        &mut self,
        column: &Column,
        before: i64,
        covered_ms: i64,
        spans_ms: &[i64],
        values: impl Iterator<Item = i64> + Clone,
    ) -> bool {
        let magnitude = column.magnitude(before);
        if u128::from(magnitude) * covered_ms as u128 > i64::MAX as u128 {
            return false;
        }
        if let Some(statistics) = &mut self.statistics {
            let moments = &mut statistics.moments;
            let squares = squares(magnitude, before, covered_ms, spans_ms, values.clone());
            let added = squares.is_some_and(|it| moments.hold_all(covered_ms, column.weighted, it));
            if !added {
                return false;
            }
            statistics.sample.extend(values);
        }
        if self.values == 0 {
            (self.first, self.min, self.max) = (column.first, column.min, column.max);
        }
        self.values += spans_ms.len() as u32;
        self.last = column.last;
        self.min = self.min.min(column.min);
        self.max = self.max.max(column.max);
        self.weighted += i128::from(column.weighted);
        self.covered_ms += covered_ms;
        true
    }

    /// Add the stretch that follows this one.
    pub(super) fn merge(&mut self, later: &Sums) {
        self.worst = self.worst.max(later.worst);
        if later.values > 0 {
            if self.values == 0 {
                (self.first, self.min, self.max) = (later.first, later.min, later.max);
            }
            self.values = self.values.saturating_add(later.values);
            self.last = later.last;
            self.min = self.min.min(later.min);
            self.max = self.max.max(later.max);
        }
        self.weighted += later.weighted;
        self.covered_ms += later.covered_ms;
        if let (Some(own), Some(later)) = (&mut self.statistics, &later.statistics) {
            own.moments.merge(&later.moments);
            own.sample.merge(&later.sample);
        }
    }

    /// Append the sums to a snapshot.
    pub(super) fn save(&self, out: &mut Vec<u8>) {
        write_u64(out, u64::from(self.values));
        out.push(self.worst);
        for value in [self.min, self.max, self.first, self.last, self.covered_ms] {
            write_i64(out, value);
        }
        write_i128(out, self.weighted);
        if let Some(statistics) = &self.statistics {
            statistics.moments.save(out);
            statistics.sample.save(out);
        }
    }

    /// Read what [`Sums::save`] wrote for a point with or without statistics.
    pub(super) fn load(reader: &mut Reader<'_>, with_statistics: bool) -> Result<Sums, Error> {
        Ok(Sums {
            values: reader.count("values", u32::MAX as usize)? as u32,
            worst: reader.byte()?,
            min: reader.i64()?,
            max: reader.i64()?,
            first: reader.i64()?,
            last: reader.i64()?,
            covered_ms: reader.i64()?,
            weighted: reader.i128()?,
            statistics: if with_statistics {
                let moments = Moments::load(reader)?;
                let sample = Sample::load(reader)?;
                Some(Box::new(Statistics { moments, sample }))
            } else {
                None
            },
        })
    }
}

/// The squares of `before` and of all values but the last, each times how long it counts; none where
/// 128 bits may not hold that, for the largest magnitude among them.
fn squares(
    magnitude: u64,
    before: i64,
    covered_ms: i64,
    spans_ms: &[i64],
    values: impl Iterator<Item = i64>,
) -> Option<u128> {
    if magnitude > u64::from(u32::MAX) {
        return None;
    }
    let covered_ms = covered_ms as u64;
    let square = |value: i64| value.wrapping_mul(value) as u64;
    let (&first_ms, spans_ms) = spans_ms.split_first()?;
    let first = u128::from(square(before)) * first_ms as u128;
    let held = values.zip(spans_ms);
    let rest = if (magnitude * magnitude).checked_mul(covered_ms).is_some() {
        let share = held.map(|(value, &span_ms)| square(value) * span_ms as u64);
        u128::from(share.sum::<u64>())
    } else {
        let share = held.map(|(value, &span_ms)| u128::from(square(value)) * span_ms as u128);
        share.sum()
    };
    Some(first + rest)
}
