//! Whole numbers of any length, as far as one exact division needs them. Slow: only what does not
//! fit 128 bits comes here, which no meter in good health sends.

use std::cmp::Ordering;
use std::iter::repeat;

const BILLION_ZEROS: u32 = 9;
const BILLION: u32 = 1_000_000_000;

/// A whole number from 0 up, lowest 32 bits first, without leading zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wide(Vec<u32>);

impl Wide {
    pub(super) fn new(value: u128) -> Wide {
        let limbs = (0..4).map(|limb| (value >> (32 * limb)) as u32);
        Wide(limbs.collect()).trimmed()
    }

    pub(super) fn times(&self, other: &Wide) -> Wide {
        let rows = (0_u32..).zip(&other.0);
        rows.fold(Wide(Vec::new()), |sum, (limb, &factor)| {
            sum.plus(&self.times_limb(factor).shifted(32 * limb))
        })
    }

    pub(super) fn times_power_of_ten(self, exponent: u32) -> Wide {
        let mut product = self;
        for _ in 0..exponent / BILLION_ZEROS {
            product = product.times_limb(BILLION);
        }
        product.times_limb(10_u32.pow(exponent % BILLION_ZEROS))
    }

    /// Multiply by two to the power of `bits`.
    pub(super) fn shifted(&self, bits: u32) -> Wide {
        let mut limbs = vec![0; (bits / 32) as usize];
        let mut carry = 0;
        for &limb in &self.0 {
            let moved = (u64::from(limb) << (bits % 32)) | carry;
            limbs.push(moved as u32);
            carry = moved >> 32;
        }
        limbs.push(carry as u32);
        Wide(limbs).trimmed()
    }

    pub(super) fn plus(&self, other: &Wide) -> Wide {
        let (long, short) = if self.0.len() < other.0.len() {
            (other, self)
        } else {
            (self, other)
        };
        let mut carry = 0;
        let mut limbs = Vec::with_capacity(long.0.len() + 1);
        for (&a, &b) in long.0.iter().zip(short.0.iter().chain(repeat(&0))) {
            let sum = u64::from(a) + u64::from(b) + carry;
            limbs.push(sum as u32);
            carry = sum >> 32;
        }
        limbs.push(carry as u32);
        Wide(limbs).trimmed()
    }

    /// Subtract what is not larger.
    pub(super) fn minus(&self, other: &Wide) -> Wide {
        let mut borrow = 0;
        let mut limbs = Vec::with_capacity(self.0.len());
        for (&a, &b) in self.0.iter().zip(other.0.iter().chain(repeat(&0))) {
            let difference = i64::from(a) - i64::from(b) - borrow;
            limbs.push(difference as u32);
            borrow = i64::from(difference < 0);
        }
        Wide(limbs).trimmed()
    }

    fn times_limb(&self, factor: u32) -> Wide {
        let mut carry = 0;
        let mut limbs = Vec::with_capacity(self.0.len() + 1);
        for &limb in &self.0 {
            let product = u64::from(limb) * u64::from(factor) + carry;
            limbs.push(product as u32);
            carry = product >> 32;
        }
        limbs.push(carry as u32);
        Wide(limbs).trimmed()
    }

    fn trimmed(mut self) -> Wide {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        self
    }
}

impl Ord for Wide {
    fn cmp(&self, other: &Wide) -> Ordering {
        let by_length = self.0.len().cmp(&other.0.len());
        by_length.then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }
}

impl PartialOrd for Wide {
    fn partial_cmp(&self, other: &Wide) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_agrees_with_the_processor_where_it_can() {
        let samples: Vec<u128> = [0, 1, 9, 0xffff_ffff, 0x1_0000_0000, u128::from(u64::MAX)].into();
        for &a in &samples {
            for &b in &samples {
                let (wide_a, wide_b) = (Wide::new(a), Wide::new(b));
                assert_eq!(wide_a.times(&wide_b), Wide::new(a * b));
                assert_eq!(wide_a.plus(&wide_b), Wide::new(a + b));
                assert_eq!(wide_a.cmp(&wide_b), a.cmp(&b));
                if a >= b {
                    assert_eq!(wide_a.minus(&wide_b), Wide::new(a - b));
                }
            }
            assert_eq!(Wide::new(a).shifted(63), Wide::new(a << 63));
            let ten_to_19 = 10_u128.pow(19);
            assert_eq!(
                Wide::new(a).times_power_of_ten(19),
                Wide::new(a * ten_to_19)
            );
        }
    }

    #[test]
    fn what_is_multiplied_beyond_the_processor_comes_back_by_subtraction() {
        let large = Wide::new(u128::MAX).times(&Wide::new(u128::MAX - 7));
        let more = large.plus(&Wide::new(u128::MAX)).shifted(1_000);
        let rest = more.minus(&large.shifted(1_000));
        assert_eq!(rest, Wide::new(u128::MAX).shifted(1_000));
        assert!(large < more);
    }
}
