//! Standard deviation of a held value, weighted by the time it was held, from exact sums.
//!
//! It has [`MEAN_SCALE`] times the resolution of its point, like the mean, and is rounded once, to
//! nearest, halves to even: the integer nearest to
//! `MEAN_SCALE x sqrt(sum(t v^2) / T - (sum(t v) / T)^2)`, with no float and no rounding before.

use crate::error::Error;
use crate::varint::{write_i128, write_i64, write_u64, Reader};
use crate::window::MEAN_SCALE;

/// Longest time the sums hold: 285 000 years.
const COVERED_MAX_MS: i64 = 1 << 53;
/// A deviation of 64-bit values, scaled, stays below two to this power.
const DEVIATION_BITS: u32 = 74;

/// An unsigned integer of 256 bits, `high` x 2^128 + `low`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Wide {
    high: u128,
    low: u128,
}

impl Wide {
    fn product(a: u128, b: u128) -> Wide {
        let halves = |number: u128| (number >> 64, number & u128::from(u64::MAX));
        let ((a_high, a_low), (b_high, b_low)) = (halves(a), halves(b));
        let low = a_low * b_low;
        let middle = a_high * b_low + (low >> 64);
        let (middle_high, middle_low) = halves(middle);
        let cross = a_low * b_high + middle_low;
        Wide {
            high: a_high * b_high + middle_high + (cross >> 64),
            low: (cross << 64) | (low & u128::from(u64::MAX)),
        }
    }

    fn plus(self, other: Wide) -> Wide {
        let (low, carry) = self.low.overflowing_add(other.low);
        Wide {
            high: self.high + other.high + u128::from(carry),
            low,
        }
    }

    /// Subtract what is not larger.
    fn minus(self, other: Wide) -> Wide {
        let (low, borrow) = self.low.overflowing_sub(other.low);
        Wide {
            high: self.high - other.high - u128::from(borrow),
            low,
        }
    }

    /// The whole part of its square root over `divisor`, which is below 2^53; it has at most
    /// [`DEVIATION_BITS`].
    fn root_over(self, divisor: u128) -> u128 {
        if self.high == 0 {
            return (self.low / (divisor * divisor)).isqrt();
        }
        let mut root = 0_u128;
        for bit in (0..DEVIATION_BITS).rev() {
            let next = (root | (1 << bit)) * divisor;
            if Wide::product(next, next) <= self {
                root |= 1 << bit;
            }
        }
        root
    }

    /// Multiply by a factor that leaves 256 bits.
    fn times(self, factor: u128) -> Wide {
        let low = Wide::product(self.low, factor);
        Wide {
            high: self.high * factor + low.high,
            low: low.low,
        }
    }
}

/// Sums over a held value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moments {
    covered_ms: i64,
    sum: i128,
    squares: Wide,
}

impl Moments {
    /// Add a value that was held for `span_ms`. Nothing is added for a span that is not positive,
    /// or that would make more than 2^53 ms.
    pub fn hold(&mut self, value: i64, span_ms: i64) {
        if span_ms <= 0 || span_ms > COVERED_MAX_MS - self.covered_ms {
            return;
        }
        let magnitude = u128::from(value.unsigned_abs());
        self.covered_ms += span_ms;
        self.sum += i128::from(value) * i128::from(span_ms);
        let square = magnitude * magnitude;
        // spans are below 2^53: most products need no more than 128 bits
        let share = match square >> 64 {
            0 => Wide {
                high: 0,
                low: square * span_ms as u128,
            },
            _ => Wide::product(square, span_ms as u128),
        };
        self.squares = self.squares.plus(share);
    }

    /// Add values that were held for `covered_ms` in all, given their sum and that of their squares,
    /// both times how long each was held. Return false, with nothing added, where [`Moments::hold`]
    /// would leave one out.
    pub fn hold_all(&mut self, covered_ms: i64, weighted: i64, squares: u128) -> bool {
        let fits = covered_ms <= COVERED_MAX_MS - self.covered_ms;
        if fits {
            self.covered_ms += covered_ms;
            self.sum += i128::from(weighted);
            self.squares = self.squares.plus(Wide {
                high: 0,
                low: squares,
            });
        }
        fits
    }

    /// Add the sums of another time. Beyond 2^53 ms in all nothing is added.
    pub fn merge(&mut self, other: &Moments) {
        if other.covered_ms <= COVERED_MAX_MS - self.covered_ms {
            self.covered_ms += other.covered_ms;
            self.sum += other.sum;
            self.squares = self.squares.plus(other.squares);
        }
    }

    /// The standard deviation; `None` when nothing was held or 64 bits do not hold it.
    #[must_use]
    pub fn deviation(&self) -> Option<i64> {
        if self.covered_ms <= 0 {
            return None;
        }
        let time = self.covered_ms as u128;
        let sum = self.sum.unsigned_abs();
        // T^2 times the variance, then times the scale's square
        let spread = self.squares.times(time).minus(Wide::product(sum, sum));
        let scaled = spread.times((MEAN_SCALE * MEAN_SCALE) as u128);
        let root = scaled.root_over(time);
        let below = Wide::product(root * time, root * time);
        let beyond = scaled.minus(below).times(4);
        let half = Wide::product(time * time, 4 * root + 1);
        let up = beyond > half || (beyond == half && root & 1 == 1);
        i64::try_from(root + u128::from(up)).ok()
    }

    /// Append the sums to a snapshot.
    pub fn save(&self, out: &mut Vec<u8>) {
        write_i64(out, self.covered_ms);
        write_i128(out, self.sum);
        for half in [self.squares.high, self.squares.low] {
            write_u64(out, (half >> 64) as u64);
            write_u64(out, half as u64);
        }
    }

    /// Read what [`Moments::save`] wrote.
    ///
    /// # Errors
    /// `Truncated`, or `Corrupt` for sums that no values have.
    pub fn load(reader: &mut Reader<'_>) -> Result<Moments, Error> {
        let at = reader.position();
        let (covered_ms, sum) = (reader.i64()?, reader.i128()?);
        let mut half = || Ok((u128::from(reader.u64()?) << 64) | u128::from(reader.u64()?));
        let squares = Wide {
            high: half()?,
            low: half()?,
        };
        let loaded = Moments {
            covered_ms,
            sum,
            squares,
        };
        if loaded.is_possible() {
            Ok(loaded)
        } else {
            Err(Error::Corrupt {
                at,
                what: "sums of a window",
            })
        }
    }

    /// Whether values of 64 bits can have these sums, so that no arithmetic on them overflows.
    fn is_possible(&self) -> bool {
        let Some(time) = u128::try_from(self.covered_ms)
            .ok()
            .filter(|&time| time <= COVERED_MAX_MS as u128)
        else {
            return false;
        };
        let sum = self.sum.unsigned_abs();
        sum <= time << 63
            && self.squares <= Wide::product(1 << 126, time)
            && Wide::product(sum, sum) <= self.squares.times(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_numbers_agree_with_the_processor_where_it_can() {
        let samples = [0, 1, 7, u128::from(u64::MAX), (1 << 100) + 12_345];
        for &a in &samples {
            for &b in &samples {
                let product = Wide::product(a, b);
                if let Some(low) = a.checked_mul(b) {
                    assert_eq!(product, Wide { high: 0, low });
                }
                assert_eq!(product, Wide::product(b, a));
                let sum = product.plus(Wide::product(a, 1));
                assert_eq!(sum.minus(product), Wide { high: 0, low: a });
                assert_eq!(sum, Wide::product(a, b + 1));
                assert_eq!(Wide { high: 0, low: a }.times(b), product);
            }
        }
        for &time in &[1, 7, 60_000, (1 << 53) - 1] {
            for &square in &samples {
                let root = Wide {
                    high: 0,
                    low: square,
                }
                .root_over(time);
                let holds = |root: u128| Wide::product(root * time, root * time).low <= square;
                assert!(holds(root), "{square} over {time}");
                let next = Wide::product((root + 1) * time, (root + 1) * time);
                assert!(next.high > 0 || next.low > square, "{square} over {time}");
            }
        }
        let most = Wide::product(u128::MAX, u128::MAX);
        assert_eq!((most.high, most.low), (u128::MAX - 1, 1));
    }
}
