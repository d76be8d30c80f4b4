//! Many rows at once: what a run of whole rows inside one stretch comes to, column by column.
//!
//! All sums are exact integers, so they are the same in whatever order they are made. Where 64 bits
//! may not hold one, its column is taken in value by value.

use super::sums::{Column, Sums};
use super::Good;
use crate::reading::Block;

/// Columns that are run through side by side: what they come to stays in registers.
const LANES: usize = 4;

/// Rows with a good value for every point, in order of time, inside one stretch.
pub(super) struct Run<'a> {
    rows: Block<'a>,
    hold_ms: i64,
    weighed_ms: i64,
    /// For how long the value before each row counts.
    spans_ms: Vec<i64>,
    covered_ms: i64,
}

impl<'a> Run<'a> {
    /// Rows that follow one read at `last_ms`, in a stretch whose held values have been weighed up
    /// to `weighed_ms`.
    pub(super) fn new(rows: Block<'a>, last_ms: i64, weighed_ms: i64, hold_ms: i64) -> Run<'a> {
        let (mut from_ms, mut good_ms) = (weighed_ms, last_ms);
        let counted = |at_ms: i64| {
            let span_ms = at_ms.min(good_ms.saturating_add(hold_ms)) - from_ms.max(good_ms);
            from_ms = from_ms.max(at_ms);
            good_ms = at_ms;
            span_ms.max(0)
        };
        let spans_ms: Vec<i64> = rows.read_at().map(counted).collect();
        Run {
            rows,
            hold_ms,
            weighed_ms,
            covered_ms: spans_ms.iter().sum(),
            spans_ms,
        }
    }

    /// Up to when held values have been weighed when all rows are in.
    pub(super) fn weighed_ms(&self) -> i64 {
        self.rows.read_at().fold(self.weighed_ms, i64::max)
    }

    /// Add what the rows come to; `before` holds each point's reading in the row before them.
    pub(super) fn fold(&self, sums: &mut [Sums], before: &[Option<Good>]) {
        let mut sums = sums.chunks_exact_mut(LANES);
        let mut before = before.chunks_exact(LANES);
        let mut point = 0;
        for (sums, before) in sums.by_ref().zip(before.by_ref()) {
            self.fold_columns::<LANES>(point, sums, before);
            point += LANES;
        }
        let rest = sums.into_remainder().chunks_mut(1);
        for (sums, before) in rest.zip(before.remainder().chunks(1)) {
            self.fold_columns::<1>(point, sums, before);
            point += 1;
        }
    }

    fn fold_columns<const N: usize>(
        &self,
        point: usize,
        sums: &mut [Sums],
        before: &[Option<Good>],
    ) {
        let rows = self.rows.columns::<N>(point);
        let mut columns = [Column::default(); N];
        let first_span_ms = self.spans_ms.first().copied().unwrap_or(0);
        for (column, good) in columns.iter_mut().zip(before.iter().flatten()) {
            column.weigh(good.value, first_span_ms);
        }
        for (row, &span_ms) in rows.clone().zip(self.spans_ms.iter().skip(1)) {
            for (column, &value) in columns.iter_mut().zip(row) {
                column.weigh(value, span_ms);
            }
        }
        // a loop of its own: a processor has registers for either, and not for both
        if let Some(row) = rows.clone().next() {
            for (column, &value) in columns.iter_mut().zip(row) {
                column.begin(value);
            }
        }
        for row in rows.clone() {
            for (column, &value) in columns.iter_mut().zip(row) {
                column.take(value);
            }
        }
        if let Some(row) = rows.last() {
            for (column, &value) in columns.iter_mut().zip(row) {
                column.last = value;
            }
        }
        let lanes = (point..)
            .zip(sums)
            .zip(columns)
            .zip(before.iter().flatten());
        for (((point, sums), column), good) in lanes {
            let values = self.rows.column(point);
            let added = sums.add(
                &column,
                good.value,
                self.covered_ms,
                &self.spans_ms,
                values.clone(),
            );
            if !added {
                self.take_in(sums, *good, values);
            }
        }
    }

    /// Take in one column as rows that come one by one.
    fn take_in(&self, sums: &mut Sums, mut good: Good, values: impl Iterator<Item = i64>) {
        let mut weighed_ms = self.weighed_ms;
        for (value, at_ms) in values.zip(self.rows.read_at()) {
            sums.hold(&good, weighed_ms, at_ms);
            sums.take(value);
            weighed_ms = weighed_ms.max(at_ms);
            good = Good {
                at_ms,
                value,
                held_until_ms: at_ms.saturating_add(self.hold_ms),
            };
        }
    }
}
