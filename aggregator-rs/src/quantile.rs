//! Exact quantiles: all values of a window are kept until it ends.
//!
//! A quantile is a value that was read (nearest rank): the lowest one that at least so many percent
//! of the values do not exceed. More than [`VALUES_MAX`] values are not kept; they have none.

use std::iter;

use crate::error::Error;
use crate::varint::{write_i64, write_u64, Reader};

/// Most values kept for a point: one a second for a day of 25 hours.
pub const VALUES_MAX: usize = 90_000;

/// Bits of a value's place between the lowest and the highest: a processor compares many numbers
/// that are so narrow at once.
const PLACE_BITS: u32 = 15;
/// Places are compared in whole blocks.
const BLOCK: usize = 32;
/// So many blocks are counted in numbers that are as narrow.
const BLOCKS_MAX: usize = i16::MAX as usize / BLOCK;
/// For so many values no memory is asked for.
const FEW: usize = 4 * BLOCK;
/// Behind every place that is looked for: where there is no value.
const NOWHERE: i16 = i16::MAX;

/// Where values lie between the lowest and the highest of them.
struct Places<'a> {
    values: &'a [i64],
    lowest: i64,
    /// A place holds two to this power different values.
    shift: u32,
    /// Bits of the last place.
    bits: u32,
    /// For each value, and [`NOWHERE`] behind them.
    each: &'a [i16],
}

impl<'a> Places<'a> {
    /// Those of values from `lowest` to `highest`; `places` has room for each.
    fn of(values: &'a [i64], (lowest, highest): (i64, i64), places: &'a mut [i16]) -> Places<'a> {
        let used_bits = u64::BITS - highest.abs_diff(lowest).leading_zeros();
        let shift = used_bits.saturating_sub(PLACE_BITS);
        for (place, value) in places.iter_mut().zip(values) {
            *place = (value.wrapping_sub(lowest) as u64 >> shift) as i16;
        }
        Places {
            values,
            lowest,
            shift,
            bits: used_bits - shift,
            each: places,
        }
    }

    /// For each of these places, how many values lie before it.
    fn before<const N: usize>(&self, places: [i16; N]) -> [usize; N] {
        let mut all = [0; N];
        for blocks in self.each.chunks(BLOCKS_MAX * BLOCK) {
            let mut counts = [0_i16; N];
            for it in blocks {
                for (count, place) in counts.iter_mut().zip(&places) {
                    *count += i16::from(it < place);
                }
            }
            for (all, count) in all.iter_mut().zip(counts) {
                *all += count as usize;
            }
        }
        all
    }

    /// The values of these ranks, counted from 0.
    fn ranked<const N: usize>(&self, ranks: [usize; N]) -> [Option<i64>; N] {
        let mut places = [0; N];
        for bit in (0..self.bits).rev() {
            let next = places.map(|place| place | (1 << bit));
            let before = self.before(next);
            for (place, (rank, count)) in places.iter_mut().zip(ranks.into_iter().zip(before)) {
                *place |= i16::from(count <= rank) << bit;
            }
        }
        let mut before = self.before(places).into_iter().zip(ranks);
        places.map(|place| {
            let (before, rank) = before.next()?;
            if self.shift == 0 {
                return Some(self.lowest.wrapping_add(i64::from(place)));
            }
            let there = self.values.iter().zip(self.each);
            let there = there.filter(|(_, &it)| it == place);
            let mut there: Vec<i64> = there.map(|(&value, _)| value).collect();
            let rest = rank.checked_sub(before)?;
            (rest < there.len()).then(|| *there.select_nth_unstable(rest).1)
        })
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

    /// The quantiles of these percentages (1 to 100), given the lowest and the highest value; `None`
    /// without values, or with too many.
    #[must_use]
    pub fn quantiles<const N: usize>(
        &self,
        ends: (i64, i64),
        percents: [usize; N],
    ) -> [Option<i64>; N] {
        if self.values.is_empty() {
            return [None; N];
        }
        let count = self.values.len();
        let (mut few, mut many) = ([NOWHERE; FEW], Vec::new());
        let room = count.next_multiple_of(BLOCK);
        let places = if let Some(few) = few.get_mut(..room) {
            few
        } else {
            many.resize(room, NOWHERE);
            many.as_mut_slice()
        };
        let ranks = percents.map(|percent| (count * percent).div_ceil(100).max(1) - 1);
        Places::of(&self.values, ends, places).ranked(ranks)
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
