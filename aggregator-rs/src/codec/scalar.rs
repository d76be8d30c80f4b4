//! Integers that stand alone: heads of columns, and what has no past to be predicted from.

use super::mixing::{Context, Shape, SHAPES};
use super::series::spread;

/// What an integer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    /// A column's first value, as it is.
    First,
    /// A column's first value less the one of the column before it.
    FirstBeside,
    /// A column's first value less the last one known of the same column of another table.
    FirstAgain,
    /// The greatest common divisor of a column's differences.
    Unit,
    /// A quality.
    Quality,
    /// A window's start, in window lengths from the one expected.
    Start,
    /// A table's first time, as it is.
    Time,
}

/// First direct context of scalars; the scales of series stand before them.
const DIRECT: usize = 16;
/// The set of weights that all of them share.
pub(super) const SET: usize = 16;

impl Scalar {
    /// The context of an integer of this kind; `near` and `far` are two things known about it,
    /// the first of which matters more.
    pub(super) fn context(self, near: u32, far: u32) -> Context {
        let kind = 1 + self as u32;
        let near = kind << 16 | (near & 0xff) << 8;
        let hashes = [
            kind << 24,
            near,
            near | far & 0xff,
            kind << 20 | far & 0xff,
            near << 8,
            kind << 21 | 1,
            near << 7 | far & 0x7f,
        ];
        Context {
            hashes: hashes.map(spread),
            direct: DIRECT + self as usize,
            set: SET,
            shapes: [Shape::default(); SHAPES],
        }
    }
}

/// Digits of a value, 0 to 64.
pub(super) fn digits_of(value: i64) -> u32 {
    64 - value.unsigned_abs().leading_zeros()
}
