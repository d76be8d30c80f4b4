//! Rows that wait for a cut, one behind the other without a hole: a gateway takes them in all day.

use crate::reading::RowView;
use crate::table::Column;

/// Rows of one group.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    points: usize,
    /// When each was due and how much later it was read.
    times: Vec<(i64, i64)>,
    values: Vec<Option<i64>>,
    qualities: Vec<u8>,
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
        self.times.len()
    }

    pub(super) fn push(&mut self, row: RowView<'_>) {
        self.times
            .push((row.due_ms, row.at_ms.wrapping_sub(row.due_ms)));
        self.values.extend_from_slice(row.values);
        self.qualities.extend_from_slice(row.qualities);
    }

    /// Take the first rows out, as the columns of a table of readings, with the count of values.
    pub(super) fn take(&mut self, rows: usize) -> (Vec<Column>, u64) {
        let cells = rows * self.points;
        let times = self.times.get(..rows).unwrap_or_default();
        let values = self.values.get(..cells).unwrap_or_default();
        let qualities = self.qualities.get(..cells).unwrap_or_default();
        let mut columns: Vec<Column> = Vec::with_capacity(2 + 2 * self.points);
        columns.push(times.iter().map(|&(due_ms, _)| Some(due_ms)).collect());
        columns.push(times.iter().map(|&(_, delay_ms)| Some(delay_ms)).collect());
        for point in 0..self.points {
            let column = values.iter().skip(point).step_by(self.points);
            columns.push(column.copied().collect());
        }
        for point in 0..self.points {
            let column = qualities.iter().skip(point).step_by(self.points);
            columns.push(column.map(|&quality| Some(i64::from(quality))).collect());
        }
        let count = values.iter().flatten().count() as u64;
        self.times.drain(..rows);
        self.values.drain(..cells);
        self.qualities.drain(..cells);
        (columns, count)
    }
}
