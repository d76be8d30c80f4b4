//! What is pending, turned into a table's columns.

use crate::demand::{DayRow, DAY_CELLS};
use crate::reading::Gap;
use crate::table::Column;
use crate::totaliser::Audit;
use crate::window::WindowRow;

pub(super) fn gap_columns(gaps: &[Gap]) -> Vec<Column> {
    vec![
        gaps.iter().map(|gap| Some(gap.first_due_ms)).collect(),
        gaps.iter().map(|gap| Some(gap.last_due_ms)).collect(),
        gaps.iter().map(|gap| Some(i64::from(gap.slots))).collect(),
        gaps.iter().map(|gap| Some(i64::from(gap.reason))).collect(),
    ]
}

pub(super) fn window_columns(rows: &[WindowRow]) -> Vec<Column> {
    let mut columns = vec![rows.iter().map(|row| Some(row.start_ms)).collect()];
    let cells: Vec<_> = rows.iter().map(|row| row.values.as_slice()).collect();
    columns.extend(transposed(&cells));
    columns
}

/// What is told of windows beside their table, given with their length.
pub(super) fn beside_columns<'a>(
    windows: &'a [(i64, Vec<WindowRow>)],
    cells: fn(&'a WindowRow) -> &'a [Option<i64>],
) -> Vec<Column> {
    let rows = || {
        let with_length = |(length_ms, rows): &'a (i64, Vec<WindowRow>)| {
            rows.iter().map(move |row| (*length_ms, row))
        };
        windows.iter().flat_map(with_length)
    };
    let mut columns = vec![
        rows().map(|(_, row)| Some(row.start_ms)).collect(),
        rows().map(|(length_ms, _)| Some(length_ms)).collect(),
    ];
    let cells = rows().map(|(_, row)| cells(row));
    columns.extend(transposed(&cells.collect::<Vec<_>>()));
    columns
}

fn transposed(rows: &[&[Option<i64>]]) -> Vec<Column> {
    let width = rows.first().map_or(0, |row| row.len());
    let cell = |row: &[Option<i64>], at: usize| row.get(at).copied().flatten();
    let column = |at| rows.iter().map(|row| cell(row, at)).collect();
    (0..width).map(column).collect()
}

/// See [`crate::table::AUDIT_COLUMNS`].
pub(super) fn audit_columns(audits: &[(usize, Audit)]) -> Vec<Column> {
    let of = |cell: fn(&Audit) -> Option<i64>| audits.iter().map(|(_, it)| cell(it)).collect();
    vec![
        audits
            .iter()
            .map(|(point, _)| Some(*point as i64))
            .collect(),
        of(|audit| Some(audit.kind as i64)),
        of(|audit| Some(audit.closing.at_ms)),
        of(|audit| Some(audit.closing.value)),
        of(|audit| Some(audit.opening.at_ms)),
        of(|audit| Some(audit.opening.value)),
        of(|audit| Some(audit.energy)),
        of(|audit| Some(i64::from(audit.doubted))),
        of(|audit| audit.extreme),
    ]
}

/// See [`crate::table::DEMAND_COLUMNS`].
pub(super) fn demand_columns(rows: &[(usize, DayRow)]) -> Vec<Column> {
    let points = rows.iter().map(|(point, _)| Some(*point as i64)).collect();
    let cell = |at: usize| {
        rows.iter()
            .map(move |(_, day)| day.get(at).copied().flatten())
    };
    let cells = (0..DAY_CELLS).map(|at| cell(at).collect());
    std::iter::once(points).chain(cells).collect()
}
