//! Exact quantiles: all values of a window are kept until it closes.
//!
//! A quantile is a value that was read (nearest rank): the lowest one that at least so many percent
//! of the values do not exceed. More than [`VALUES_MAX`] values are not kept; they have none.

use std::iter;

use crate::error::Error;
use crate::varint::{write_i64, write_u64, Reader};

/// Most values kept for a point: one a second for a day of 25 hours.
pub const VALUES_MAX: usize = 90_000;

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
        let mut values = self.values.clone();
        percents.map(|percent| {
            let rank = (values.len() * percent).div_ceil(100);
            let place = rank.checked_sub(1).filter(|&place| place < values.len())?;
            Some(*values.select_nth_unstable(place).1)
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
