//! The adaptive flags of codec 2, by their first index; each has as many as its contexts say.

/// Every quality is 0: no context.
pub(super) const GOOD: usize = 0;
/// No other column has an empty cell: no context.
pub(super) const WHOLE: usize = 1;
/// All cells of a column are empty: whether those of the column before are.
pub(super) const EMPTY: usize = 2;
/// A column has empty cells: whether the column before has.
pub(super) const SPARSE: usize = 4;
/// A column has one value: whether the column before has; 2 more if it holds qualities.
pub(super) const CONSTANT: usize = 6;
/// A column moves in units: whether the column before does; 2 more if it holds no values.
pub(super) const UNIT: usize = 10;
/// A first value is coded from the same column of a former table: whether the last one was.
pub(super) const AGAIN: usize = 14;
/// A first value is coded from the column before: whether the last one was, 2 more for each digit
/// of the first value of the column before, 31 at most.
pub(super) const BESIDE: usize = 128;
/// A row has all cells and no reasons: how many of the two rows before it had.
pub(super) const CLEAN: usize = 18;
/// A cell is there: whether the one before it in the row is, 2 more if the one above it is.
pub(super) const PRESENT: usize = 21;
/// A quality is that of the column before: whether its value is there, 2 more if the value of
/// the column before is.
pub(super) const SAME: usize = 25;
/// As `EMPTY`, in windows, of the same field of the point before.
pub(super) const WINDOW_EMPTY: usize = 29;
/// As `SPARSE`, in windows, of the same field of the point before.
pub(super) const WINDOW_SPARSE: usize = 31;
/// As `PRESENT`, in windows.
pub(super) const WINDOW_PRESENT: usize = 33;
/// A window's start lies at the expected grid: no context.
pub(super) const ALIGNED: usize = 37;
/// A column goes on from the last value of a former table: whether the column before does.
pub(super) const CONTINUED: usize = 38;
/// A column that goes on keeps its unit, which is not 1: no context.
pub(super) const KEPT: usize = 40;
/// A first value's integer is a multiple of the column's unit: whether it is a time as it is.
pub(super) const DIVIDED: usize = 42;
/// The unit of the first column is a multiple of 1000: no context.
pub(super) const THOUSANDS: usize = 44;
/// All columns go on from the last values that a keyframe has: no context.
pub(super) const ALL_CONTINUED: usize = 45;
/// The digits of a length that no decision says: the digits so far, with a leading 1.
pub(super) const LENGTH: usize = 64;
