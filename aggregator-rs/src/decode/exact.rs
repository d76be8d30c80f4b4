//! From the numbers in registers to a mantissa: sums of raw x factor, rounded once.
//!
//! Nothing here is a binary float: a float register is a whole number times a power of two.

use super::wide::Wide;
use crate::error::Error;
use crate::rounding::divide_half_even;

/// An exact factor, `top / bottom`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor {
    top: i128,
    bottom: i128,
}

impl Factor {
    /// The factor 1.
    pub const ONE: Factor = Factor { top: 1, bottom: 1 };

    /// The factor `top / bottom`.
    ///
    /// # Errors
    /// `InvalidArgument` when it is 0, which would turn every reading into a plausible 0, or
    /// `bottom` is not positive.
    pub fn new(top: i128, bottom: i128) -> Result<Factor, Error> {
        if top == 0 || top == i128::MIN || bottom <= 0 {
            return Err(Error::InvalidArgument(
                "a factor is not 0, and its denominator is positive",
            ));
        }
        Ok(Factor { top, bottom })
    }
}

/// What a register says: `mantissa` x 2^`twos` x 10^`tens`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Raw {
    pub(super) mantissa: i128,
    pub(super) twos: i32,
    pub(super) tens: i32,
}

impl Raw {
    pub(super) fn whole(mantissa: i128) -> Raw {
        Raw {
            mantissa,
            twos: 0,
            tens: 0,
        }
    }

    /// The number as a fraction, times `factor`; `None` when 128 bits do not hold it.
    fn fraction(self, factor: Factor) -> Option<(i128, i128)> {
        let mut top = product(self.mantissa, factor.top)?;
        let mut bottom = factor.bottom;
        if self.twos < 0 {
            bottom = doubled(bottom, self.twos.unsigned_abs())?;
        } else {
            top = doubled(top, self.twos.unsigned_abs())?;
        }
        if self.tens != 0 {
            let power = 10_i128.checked_pow(self.tens.unsigned_abs())?;
            if self.tens < 0 {
                bottom = product(bottom, power)?;
            } else {
                top = product(top, power)?;
            }
        }
        Some((top, bottom))
    }

    /// As [`Raw::fraction`], at any length: whether it is negative, magnitude, denominator.
    fn wide_fraction(self, factor: Factor) -> (bool, Wide, Wide) {
        let mut top =
            Wide::new(self.mantissa.unsigned_abs()).times(&Wide::new(factor.top.unsigned_abs()));
        let mut bottom = Wide::new(factor.bottom.unsigned_abs());
        let (twos, tens) = (self.twos.unsigned_abs(), self.tens.unsigned_abs());
        if self.twos < 0 {
            bottom = bottom.shifted(twos);
        } else {
            top = top.shifted(twos);
        }
        if self.tens < 0 {
            bottom = bottom.times_power_of_ten(tens);
        } else {
            top = top.times_power_of_ten(tens);
        }
        ((self.mantissa < 0) != (factor.top < 0), top, bottom)
    }
}

/// The product, unless 128 bits do not hold it.
fn product(a: i128, b: i128) -> Option<i128> {
    match (i64::try_from(a), i64::try_from(b)) {
        // which is what nearly all registers come to, in one instruction
        (Ok(a), Ok(b)) => Some(i128::from(a) * i128::from(b)),
        _ => a.checked_mul(b),
    }
}

/// The number times two so many times, unless 128 bits do not hold it.
fn doubled(number: i128, times: u32) -> Option<i128> {
    let fits = times < number.unsigned_abs().leading_zeros();
    fits.then(|| number << times)
}

/// A number in a register and what it counts for.
pub(super) type Term = (Raw, Factor);

/// Add the terms and round to the nearest whole number, ties to even; `None` when that does not
/// lie within ±(2^63 - 1).
pub(super) fn sum(terms: impl Iterator<Item = Term> + Clone) -> Option<i64> {
    let rounded = match narrow_sum(terms.clone()) {
        Some((top, bottom)) => divide_half_even(top, bottom),
        None => wide_round(terms)?,
    };
    i64::try_from(rounded).ok().filter(|&it| it != i64::MIN)
}

/// What [`sum`] makes of `raw` and `addend`, both times `factor`, where 64 bits hold every number
/// on the way: nearly always.
#[inline]
pub(super) fn quick(raw: Raw, addend: i64, factor: Factor) -> Option<i64> {
    if raw.tens != 0 || (addend != 0 && raw.twos != 0) {
        return None;
    }
    let number = i64::try_from(raw.mantissa).ok()?.checked_add(addend)?;
    let mut top = number.checked_mul(i64::try_from(factor.top).ok()?)?;
    let mut bottom = i64::try_from(factor.bottom).ok()?;
    let twos = raw.twos.unsigned_abs();
    if twos > 0 {
        let power = 1_i64.checked_shl(twos).filter(|&it| it > 0)?;
        if raw.twos < 0 {
            bottom = bottom.checked_mul(power)?;
        } else {
            top = top.checked_mul(power)?;
        }
    }
    let rounded = match bottom {
        1 => top,
        _ => i64::try_from(divide_half_even(top.into(), bottom.into())).ok()?,
    };
    Some(rounded).filter(|&it| it != i64::MIN)
}

fn narrow_sum(mut terms: impl Iterator<Item = Term>) -> Option<(i128, i128)> {
    let (raw, factor) = terms.next()?;
    let (mut top, mut bottom) = raw.fraction(factor)?;
    for (raw, factor) in terms {
        let (other_top, other_bottom) = raw.fraction(factor)?;
        if bottom == other_bottom {
            top = top.checked_add(other_top)?;
        } else {
            let crossed = other_top.checked_mul(bottom)?;
            top = top.checked_mul(other_bottom)?.checked_add(crossed)?;
            bottom = bottom.checked_mul(other_bottom)?;
        }
    }
    Some((top, bottom))
}

/// The rounded quotient of [`narrow_sum`], at any length; `None` from 2^64 up.
fn wide_round(terms: impl Iterator<Item = Term>) -> Option<i128> {
    let (mut negative, mut top, mut bottom) = (false, Wide::new(0), Wide::new(1));
    for (raw, factor) in terms {
        let (other_negative, other_top, other_bottom) = raw.wide_fraction(factor);
        let (crossed, other) = (top.times(&other_bottom), other_top.times(&bottom));
        bottom = bottom.times(&other_bottom);
        if negative == other_negative {
            top = crossed.plus(&other);
        } else if crossed >= other {
            top = crossed.minus(&other);
        } else {
            top = other.minus(&crossed);
            negative = other_negative;
        }
    }
    if top >= bottom.shifted(64) {
        return None;
    }
    let mut quotient = 0_i128;
    for bit in (0..64).rev() {
        let part = bottom.shifted(bit);
        if top >= part {
            top = top.minus(&part);
            quotient |= 1 << bit;
        }
    }
    let twice = top.shifted(1);
    let up = twice > bottom || (twice == bottom && quotient & 1 == 1);
    let magnitude = quotient + i128::from(up);
    Some(if negative { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_divide_agree() -> Result<(), Error> {
        let numbers = [-7, -5, -3, -1, 0, 1, 3, 5, 7, 1 << 40, -(1 << 62)];
        let factors = [(1, 2), (-3, 10), (7, 4), (1, 1)]
            .map(|(top, bottom)| Factor::new(top, bottom))
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?;
        for mantissa in numbers {
            for (twos, tens) in [(0, 0), (-3, 0), (2, -1), (0, 3)] {
                let raw = Raw {
                    mantissa,
                    twos,
                    tens,
                };
                for &one in &factors {
                    let alone = sum([(raw, one)].into_iter());
                    assert_eq!(quick(raw, 0, one).or(alone), alone, "{raw:?} x {one:?}");
                    let added = [(raw, one), (Raw::whole(-5), one)];
                    let added = sum(added.into_iter());
                    assert_eq!(
                        quick(raw, -5, one).or(added),
                        added,
                        "{raw:?} - 5 x {one:?}"
                    );
                    for &other in &factors {
                        let terms = [(raw, one), (Raw::whole(-5), other)].into_iter();
                        let narrow = narrow_sum(terms.clone())
                            .map(|(top, bottom)| divide_half_even(top, bottom));
                        // the wide path stops there, the narrow one is cut by its caller
                        let narrow = narrow.filter(|it| it.unsigned_abs() < 1 << 64);
                        assert_eq!(narrow, wide_round(terms), "{raw:?} x {one:?}, {other:?}");
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn what_64_bits_hold_takes_the_short_way() -> Result<(), Error> {
        let tenth = Factor::new(1, 10)?;
        assert_eq!(quick(Raw::whole(25), 0, tenth), Some(2));
        assert_eq!(quick(Raw::whole(25), 10, tenth), Some(4));
        assert_eq!(quick(Raw::whole(1 << 62), 0, Factor::new(2, 1)?), None);
        assert_eq!(quick(Raw::whole(1 << 63), 0, Factor::ONE), None);
        assert_eq!(quick(Raw::whole(-(1 << 63)), 0, Factor::ONE), None);
        Ok(())
    }

    #[test]
    fn what_128_bits_cannot_hold_is_still_exact() -> Result<(), Error> {
        let minus = Factor::new(-1, 1)?;
        let half = (Raw::whole(1), Factor::new(1, 2)?);
        let power = |mantissa, twos| Raw {
            mantissa,
            twos,
            tens: 0,
        };
        let (huge, tiny) = (power(1, 971), power((1 << 53) - 1, -1074));
        let of = |terms: &[Term]| sum(terms.iter().copied());
        assert_eq!(of(&[(huge, Factor::ONE)]), None);
        assert_eq!(of(&[(huge, Factor::ONE), (huge, minus)]), Some(0));
        // a half goes to the even 0, unless the least bit of a double tips it over
        assert_eq!(of(&[half]), Some(0));
        assert_eq!(of(&[half, (tiny, Factor::ONE)]), Some(1));
        assert_eq!(of(&[half, (tiny, minus)]), Some(0));
        assert_eq!(of(&[(huge, Factor::ONE), half, (huge, minus)]), Some(0));
        let sixteenths = [
            (power(1 << 60, -64), Factor::ONE),
            (power(1 << 60, -65), Factor::ONE),
        ];
        assert_eq!(of(&sixteenths), Some(0));
        Ok(())
    }

    #[test]
    fn the_largest_mantissas_are_symmetric() {
        let of = |mantissa| sum([(Raw::whole(mantissa), Factor::ONE)].into_iter());
        let max = i128::from(i64::MAX);
        assert_eq!(of(max), Some(i64::MAX));
        assert_eq!(of(-max), Some(-i64::MAX));
        assert_eq!(of(-max - 1), None);
        assert_eq!(of(max + 1), None);
    }
}
