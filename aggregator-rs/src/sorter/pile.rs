//! Rows of one group that wait to be encoded: the latest as they are, the others packed.

use crate::codec::{decode, encode, CODEC_DELTA};
use crate::error::Error;
use crate::table::{Column, Table, TableKind};

/// So many packed parts become one: the heads of columns are most of a part of few rows.
const PARTS_MAX: usize = 8;

/// What a column takes beside its cells, and what a cell takes.
const COLUMN_BYTES: usize = 96;
const CELL_BYTES: usize = size_of::<Option<i64>>();

/// What tables must have in common to be one: kind, length and number of columns.
type Shape = (TableKind, u32, usize);

/// Rows of one group.
#[derive(Debug, Default)]
pub(super) struct Pile {
    group: u32,
    loose: Vec<(Shape, Vec<Column>)>,
    loose_cells: usize,
    loose_bytes: usize,
    packed: Vec<Vec<u8>>,
    packed_cells: usize,
}

impl Pile {
    pub(super) fn cells(&self) -> usize {
        self.loose_cells + self.packed_cells
    }

    pub(super) fn loose_bytes(&self) -> usize {
        self.loose_bytes
    }

    pub(super) fn packed_bytes(&self) -> usize {
        self.packed.iter().map(Vec::len).sum()
    }

    /// Add the rows of a table of the pile's group; return how many bytes more are loose.
    pub(super) fn add(&mut self, table: Table) -> usize {
        self.group = table.group();
        let (cells, width) = (table.rows() * table.columns().len(), table.columns().len());
        let shapes = self.loose.len();
        append(&mut self.loose, table);
        let more = cells * CELL_BYTES + (self.loose.len() - shapes) * width * COLUMN_BYTES;
        self.loose_cells += cells;
        self.loose_bytes += more;
        more
    }

    /// Make bytes of what is loose.
    pub(super) fn pack(&mut self) -> Result<(), Error> {
        if self.loose.is_empty() {
            return Ok(());
        }
        let tables = tables(self.group, std::mem::take(&mut self.loose))?;
        self.packed.push(encode(&tables)?);
        self.packed_cells += std::mem::take(&mut self.loose_cells);
        self.loose_bytes = 0;
        if self.packed.len() > PARTS_MAX {
            let whole = tables_of(self.group, std::mem::take(&mut self.packed), Vec::new())?;
            self.packed.push(encode(&whole)?);
        }
        Ok(())
    }

    /// Return the tables in the order of time, with the times of their earliest and latest row.
    pub(super) fn sorted(self) -> Result<(Vec<Table>, (i64, i64)), Error> {
        let mut found = tables_of(self.group, self.packed, self.loose)?;
        let mut span: Option<(i64, i64)> = None;
        for table in &mut found {
            sort(table)?;
            let own = span_of(table);
            span = span.map_or(own, |(first, last)| {
                own.map(|own| (first.min(own.0), last.max(own.1)))
                    .or(Some((first, last)))
            });
        }
        Ok((found, span.unwrap_or_default()))
    }
}

fn append(to: &mut Vec<(Shape, Vec<Column>)>, table: Table) {
    let shape = (table.kind(), table.length_ms(), table.columns().len());
    let columns = table.into_columns();
    match to.iter_mut().find(|(known, _)| *known == shape) {
        None => to.push((shape, columns)),
        Some((_, known)) => {
            for (column, mut more) in known.iter_mut().zip(columns) {
                column.append(&mut more);
            }
        }
    }
}

/// Tables of what is packed and, behind it, what is loose.
fn tables_of(
    group: u32,
    packed: Vec<Vec<u8>>,
    loose: Vec<(Shape, Vec<Column>)>,
) -> Result<Vec<Table>, Error> {
    let mut found = Vec::new();
    for part in packed {
        for table in decode(CODEC_DELTA, &part)? {
            append(&mut found, table);
        }
    }
    for table in tables(group, loose)? {
        append(&mut found, table);
    }
    tables(group, found)
}

fn tables(group: u32, columns: Vec<(Shape, Vec<Column>)>) -> Result<Vec<Table>, Error> {
    columns
        .into_iter()
        .map(|((kind, length_ms, _), columns)| Table::new(kind, group, length_ms, columns))
        .collect()
}

/// The columns with the time at which a row begins and ends.
fn times(kind: TableKind) -> (usize, usize) {
    match kind {
        TableKind::Gaps => (0, 1),
        TableKind::Audits => (2, 2),
        TableKind::Demands => (1, 1),
        TableKind::Readings
        | TableKind::Windows
        | TableKind::Uncertainties
        | TableKind::Statistics => (0, 0),
    }
}

/// Put the rows in the order of time, those of one time in the order they have.
fn sort(table: &mut Table) -> Result<(), Error> {
    let (time, _) = times(table.kind());
    let key = table.columns().get(time).cloned().unwrap_or_default();
    if key.is_sorted() {
        return Ok(());
    }
    let mut order: Vec<(Option<i64>, usize)> = key.into_iter().zip(0..).collect();
    order.sort();
    let pick = |column: &Column| -> Column {
        let cells = order.iter().map(|&(_, at)| column.get(at));
        cells.map(|cell| cell.copied().flatten()).collect()
    };
    let columns = table.columns().iter().map(pick).collect();
    *table = Table::new(table.kind(), table.group(), table.length_ms(), columns)?;
    Ok(())
}

fn span_of(table: &Table) -> Option<(i64, i64)> {
    let (first, last) = times(table.kind());
    let column = |at| table.columns().get(at).into_iter().flatten().flatten();
    Some((*column(first).min()?, *column(last).max()?))
}
