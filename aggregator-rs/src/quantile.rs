//! Exact quantiles: all values of a window are kept until it closes.
//!
//! A quantile is a value that was read (nearest rank): the lowest one that at least so many percent
//! of the values do not exceed. More than [`VALUES_MAX`] values are not kept; they have none.

use std::iter;

use crate::error::Error;
use crate::varint::{write_i64, write_u64, Reader};

/// Most values kept for a point: one a second for a day of 25 hours.
pub const VALUES_MAX: usize = 90_000;

/// Equal parts of the room from the lowest to the highest value, so that a value of some rank is
/// looked for among few.
const BINS: usize = 64;

/// How many values lie in each part.
struct Bins {
    lowest: i64,
    /// Parts are as wide as two to this power.
    shift: u32,
    counts: [u32; BINS],
}

impl Bins {
    fn of(values: &[i64]) -> Option<Bins> {
        let lowest = *values.iter().min()?;
        let highest = *values.iter().max()?;
        let used_bits = u64::BITS - highest.abs_diff(lowest).leading_zeros();
        let mut bins = Bins {
            lowest,
            shift: used_bits.saturating_sub(BINS.ilog2()),
            counts: [0; BINS],
        };
        for &value in values {
            let bin = bins.bin(value);
            if let Some(count) = bins.counts.get_mut(bin) {
                *count += 1;
            }
        }
        Some(bins)
    }

    /// The part that a value lies in.
    fn bin(&self, value: i64) -> usize {
        (value.abs_diff(self.lowest) >> self.shift) as usize % BINS
    }

    /// The value of this rank, counted from 0; `near` is memory to look for it in.
    fn ranked(&self, rank: usize, values: &[i64], near: &mut Vec<i64>) -> Option<i64> {
        let mut rest = rank;
        let bin = self.counts.iter().position(|&count| {
            let here = rest < count as usize;
            rest -= if here { 0 } else { count as usize };
            here
        })?;
        if self.shift == 0 {
            return Some(self.lowest.wrapping_add(bin as i64));
        }
        near.clear();
        near.extend(values.iter().filter(|&&it| self.bin(it) == bin));
        (rest < near.len()).then(|| *near.select_nth_unstable(rest).1)
    }
}

/// The values of a point, in the order they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    values: Vec<i64>,
    overflowed: bool,
}

impl Sample {
    /// Add a value.
    pub fn push(&mut self, value: i64) {
        self.extend(iter::once(value));
    }

    /// Add the values of a later time.
    pub fn merge(&mut self, later: &Sample) {
        self.overflowed |= later.overflowed;
        self.extend(later.values.iter().copied());
    }

    /// Forget all values, but not the memory they took.
    pub fn clear(&mut self) {
        self.values.clear();
        self.overflowed = false;
    }

    /// Add values, in their order.
    pub fn extend(&mut self, values: impl Iterator<Item = i64>) {
        if !self.overflowed {
            self.values.extend(values);
        }
        self.overflowed |= self.values.len() > VALUES_MAX;
        if self.overflowed {
            self.values = Vec::new();
        }
    }

    /// The quantiles of these percentages (1 to 100); `None` without values, or with too many.
    #[must_use]
    pub fn quantiles<const N: usize>(&self, percents: [usize; N]) -> [Option<i64>; N] {
        let Some(bins) = Bins::of(&self.values) else {
            return [None; N];
        };
        let mut near = Vec::with_capacity(bins.counts.iter().fold(0, |a, &b| a.max(b)) as usize);
        percents.map(|percent| {
            let rank = (self.values.len() * percent).div_ceil(100);
            bins.ranked(rank.checked_sub(1)?, &self.values, &mut near)
        })
    }

    /// Append the values to a snapshot.
    pub fn save(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.overflowed));
        write_u64(out, self.values.len() as u64);
        let mut former = 0_i64;
        for &value in &self.values {
            write_i64(out, value.wrapping_sub(former));
            former = value;
        }
    }

    /// Read what [`Sample::save`] wrote.
    ///
    /// # Errors
    /// `Truncated`, `Corrupt` or `TooLarge`.
    pub fn load(reader: &mut Reader<'_>) -> Result<Sample, Error> {
        let overflowed = reader.byte()? != 0;
        let count = reader.count("values of a window", VALUES_MAX)?;
        let mut former = 0_i64;
        let values = (0..count)
            .map(|_| {
                former = former.wrapping_add(reader.i64()?);
                Ok(former)
            })
            .collect::<Result<_, Error>>()?;
        Ok(Sample { values, overflowed })
    }
}
