//! Rows that wait for a cut, one behind the other without a hole: a gateway takes them in all day.

use crate::reading::{append, row_cells, Block, RowView, GOOD};
use crate::table::Column;

/// Rows of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pending {
    points: usize,
    cells: Vec<i64>,
    /// Rows with a reason in them, by their numbers.
    flagged: Vec<usize>,
    /// For each of those, one mark per point.
    marks: Vec<Mark>,
}

/// What a value alone does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    is_there: bool,
    quality: u8,
}

impl Pending {
    /// No rows of so many points.
    pub(super) fn new(points: usize) -> Pending {
        Pending {
            points,
            ..Pending::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.cells.len() / row_cells(self.points)
    }

    /// Add a row; a whole one has a good value for every point.
    pub(super) fn push(&mut self, row: RowView<'_>, is_whole: bool) {
        if !is_whole {
            self.flagged.push(self.len());
            let marks = row.values.iter().zip(row.qualities);
            self.marks.extend(marks.map(|(value, &quality)| Mark {
                is_there: value.is_some(),
                quality,
            }));
        }
        append(row, &mut self.cells);
    }

    /// The last so many rows, of which none has a reason in it.
    pub(super) fn last(&self, rows: usize) -> Block<'_> {
        let cells = self.cells.len() - rows * row_cells(self.points);
        Block::new(self.points, self.cells.get(cells..).unwrap_or_default())
    }

    /// Take the first rows out.
    pub(super) fn take(&mut self, rows: usize) -> Pending {
        let cells = rows * row_cells(self.points);
        let flagged = self.flagged.partition_point(|&row| row < rows);
        let taken = Pending {
            points: self.points,
            cells: take_first(&mut self.cells, cells),
            flagged: take_first(&mut self.flagged, flagged),
            marks: take_first(&mut self.marks, flagged * self.points),
        };
        self.flagged.iter_mut().for_each(|row| *row -= rows);
        taken
    }

    /// How many values there are in all rows.
    pub(super) fn values(&self) -> usize {
        let absent = self.marks.iter().filter(|mark| !mark.is_there).count();
        self.len() * self.points - absent
    }

    /// The columns of a table of readings.
    pub(super) fn columns(&self) -> Vec<Column> {
        let block = Block::new(self.points, &self.cells);
        let mut columns: Vec<Column> = Vec::with_capacity(2 + 2 * self.points);
        columns.push(block.times().map(|(due_ms, _)| Some(due_ms)).collect());
        columns.push(block.times().map(|(_, delay_ms)| Some(delay_ms)).collect());
        for point in 0..self.points {
            let values = block.columns(point).map(|&[value]| Some(value));
            let mut column: Column = values.collect();
            for (&row, mark) in self.flagged.iter().zip(self.marks_of(point)) {
                if let Some(cell) = column.get_mut(row).filter(|_| !mark.is_there) {
                    *cell = None;
                }
            }
            columns.push(column);
        }
        for point in 0..self.points {
            let mut column = vec![Some(i64::from(GOOD)); self.len()];
            for (&row, mark) in self.flagged.iter().zip(self.marks_of(point)) {
                if let Some(cell) = column.get_mut(row) {
                    *cell = Some(i64::from(mark.quality));
                }
            }
            columns.push(column);
        }
        columns
    }

    fn marks_of(&self, point: usize) -> impl Iterator<Item = &Mark> {
        self.marks.iter().skip(point).step_by(self.points)
    }
}

/// Take the first elements out; what is left has as much memory as there was, since as much will
/// come again.
fn take_first<T>(from: &mut Vec<T>, count: usize) -> Vec<T> {
    let rest = from.split_off(count.min(from.len()));
    let taken = std::mem::replace(from, rest);
    from.reserve(taken.len().saturating_sub(from.len()));
    taken
}
