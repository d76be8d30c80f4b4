//! Rows of one group without a reason in them, one behind the other in one piece of memory, so that
//! a point's values can be run through without looking at anything else.

use super::RowView;

/// Cells of a row before its values: when it was due, and how much later it was read.
const LEAD: usize = 2;

/// Rows of one group, borrowed; where a row has no value for a point, its cell is 0.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    points: usize,
    cells: &'a [i64],
}

/// Cells that a row of so many points takes.
#[must_use]
pub fn row_cells(points: usize) -> usize {
    LEAD + points
}

/// Append a row.
pub fn append(row: RowView<'_>, cells: &mut Vec<i64>) {
    cells.reserve(row_cells(row.values.len()));
    cells.push(row.due_ms);
    cells.push(row.at_ms.wrapping_sub(row.due_ms));
    cells.extend(row.values.iter().map(|value| value.unwrap_or(0)));
}

impl<'a> Block<'a> {
    /// What [`append`] wrote for rows of so many points.
    #[must_use]
    pub fn new(points: usize, cells: &'a [i64]) -> Block<'a> {
        Block { points, cells }
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(self) -> usize {
        self.cells.len() / row_cells(self.points)
    }

    /// Per row, when it was due and how much later it was read.
    pub fn times(self) -> impl Iterator<Item = (i64, i64)> + 'a {
        let rows = self.cells.chunks_exact(row_cells(self.points));
        rows.map(|row| match *row {
            [due_ms, delay_ms, ..] => (due_ms, delay_ms),
            _ => (0, 0),
        })
    }

    /// Per row, when it was read.
    pub fn read_at(self) -> impl Iterator<Item = i64> + 'a {
        self.times()
            .map(|(due_ms, delay_ms)| due_ms.wrapping_add(delay_ms))
    }

    /// The values of the last row; none where there is no row.
    #[must_use]
    pub fn last_values(self) -> &'a [i64] {
        let last = self.cells.chunks_exact(row_cells(self.points)).next_back();
        last.and_then(|row| row.get(LEAD..)).unwrap_or_default()
    }

    /// Per row, the value of this point.
    #[must_use]
    pub fn column(
        self,
        point: usize,
    ) -> impl ExactSizeIterator<Item = i64> + DoubleEndedIterator + Clone + 'a {
        let place = LEAD + point;
        let rows = self.cells.chunks_exact(row_cells(self.points));
        rows.map(move |row| row.get(place).copied().unwrap_or(0))
    }

    /// Per row, the values of the `N` points that begin with this one; nothing where there are
    /// not so many.
    pub fn columns<const N: usize>(
        self,
        point: usize,
    ) -> impl Iterator<Item = &'a [i64; N]> + Clone {
        let place = LEAD + point;
        let rows = self.cells.chunks_exact(row_cells(self.points));
        rows.filter_map(move |row| row.get(place..place + N)?.try_into().ok())
    }
}
