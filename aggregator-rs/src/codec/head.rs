//! Heads of tables, which all codecs of integers share, and the limits that are checked before
//! anything is allocated.

use super::{CELLS_MAX, COLUMNS_MAX, ROWS_MAX, TABLES_MAX};
use crate::error::Error;
use crate::table::{Column, Table, TableKind, GAP_COLUMNS};
use crate::varint::{write_u64, Reader};

/// A table's kind is below this, so that it and a small group share a byte.
const KINDS: u64 = 8;

/// What is known of a table before its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: TableKind,
    pub(super) group: u32,
    pub(super) length_ms: u32,
    pub(super) rows: usize,
    pub(super) width: usize,
    /// Where it stands, for errors.
    at: usize,
}

impl Head {
    /// Build the table.
    ///
    /// # Errors
    /// `Corrupt` when the columns do not fit the kind.
    pub(super) fn table(&self, columns: Vec<Column>) -> Result<Table, Error> {
        Table::new(self.kind, self.group, self.length_ms, columns).map_err(|_| Error::Corrupt {
            at: self.at,
            what: "table shape",
        })
    }
}

/// Refuse what is over a limit.
pub(super) fn check(what: &'static str, found: usize, max: usize) -> Result<(), Error> {
    if found > max {
        return Err(Error::TooLarge {
            what,
            found: found as u64,
            max: max as u64,
        });
    }
    Ok(())
}

/// Counts tables and cells against the limits.
#[derive(Debug)]
struct Limits {
    cells: usize,
    cells_max: usize,
}

impl Limits {
    fn new(cells: usize, cells_max: usize) -> Limits {
        Limits { cells, cells_max }
    }

    /// Take a table in. One without rows counts as one row: its columns take time too.
    fn add(&mut self, rows: usize, width: usize) -> Result<(), Error> {
        check("rows", rows, ROWS_MAX)?;
        check("columns", width, COLUMNS_MAX)?;
        self.cells += rows.max(1) * width;
        check("cells", self.cells, self.cells_max.min(CELLS_MAX))
    }
}

/// Write the heads of tables; behind a keyframe with their number, or as what it has too.
///
/// # Errors
/// `TooLarge` beyond the limits: what cannot be decoded is never written.
pub(super) fn write_heads(
    out: &mut Vec<u8>,
    tables: &[Table],
    cells_max: usize,
    known: Option<&[Head]>,
) -> Result<Vec<Head>, Error> {
    let mut known = known.map(Known::new);
    check("tables", tables.len(), TABLES_MAX)?;
    if let Some(known) = &known {
        let rows = known.rows_alike(tables);
        write_u64(out, rows as u64);
        if rows > 0 {
            return known.alike(rows, cells_max);
        }
        write_u64(out, tables.len() as u64);
    }
    let mut limits = Limits::new(known.as_ref().map_or(0, Known::cells), cells_max);
    let mut heads = Vec::with_capacity(tables.len());
    for table in tables {
        let head = Head {
            kind: table.kind(),
            group: table.group(),
            length_ms: table.length_ms(),
            rows: table.rows(),
            width: table.columns().len(),
            at: out.len(),
        };
        limits.add(head.rows, head.width)?;
        heads.push(head);
        if let Some(known) = &mut known {
            let found = known.find(&head);
            write_u64(out, found);
            if found > 0 {
                write_u64(out, head.rows as u64);
                continue;
            }
        }
        let kind = u64::from(head.kind.code());
        write_u64(out, u64::from(head.group) * KINDS + kind);
        if head.kind == TableKind::Windows {
            write_u64(out, u64::from(head.length_ms));
        }
        write_u64(out, head.rows as u64);
        if head.kind != TableKind::Gaps {
            write_u64(out, head.width as u64);
        }
    }
    Ok(heads)
}

/// Read so many heads that [`write_heads`] wrote without a keyframe; a shape that no table can
/// have is refused here.
///
/// # Errors
/// `Truncated`, `Corrupt` or `TooLarge`.
pub(super) fn read_heads(
    reader: &mut Reader<'_>,
    cells_max: usize,
    tables: usize,
) -> Result<Vec<Head>, Error> {
    list(reader, tables, Limits::new(0, cells_max), read_head)
}

/// Read what [`write_heads`] wrote behind a keyframe with these heads.
///
/// # Errors
/// `Truncated`, `Corrupt` or `TooLarge`.
pub(super) fn read_heads_on(
    reader: &mut Reader<'_>,
    cells_max: usize,
    known: &[Head],
) -> Result<Vec<Head>, Error> {
    let mut known = Known::new(known);
    let rows = reader.count("rows", ROWS_MAX)?;
    if rows > 0 {
        return known.alike(rows, cells_max);
    }
    let tables = reader.count("tables", TABLES_MAX)?;
    let limits = Limits::new(known.cells(), cells_max);
    list(reader, tables, limits, |reader| {
        let place = reader.count("head of the keyframe", known.heads.len())?;
        match known.get(place) {
            None => read_head(reader),
            Some(head) => Ok(Head {
                rows: reader.count("rows", ROWS_MAX)?,
                at: reader.position(),
                ..head
            }),
        }
    })
}

fn list(
    reader: &mut Reader<'_>,
    tables: usize,
    mut limits: Limits,
    mut read: impl FnMut(&mut Reader<'_>) -> Result<Head, Error>,
) -> Result<Vec<Head>, Error> {
    let mut heads = Vec::new();
    for _ in 0..tables {
        let head = read(reader)?;
        limits.add(head.rows, head.width)?;
        head.table(vec![Vec::new(); head.width])?;
        heads.push(head);
    }
    Ok(heads)
}

fn read_head(reader: &mut Reader<'_>) -> Result<Head, Error> {
    let at = reader.position();
    let both = reader.u64()?;
    let kind = TableKind::from_code((both % KINDS) as u8).ok_or(Error::Corrupt {
        at,
        what: "table kind",
    })?;
    let group = u32::try_from(both / KINDS).map_err(|_| Error::TooLarge {
        what: "group number",
        found: both / KINDS,
        max: u64::from(u32::MAX),
    })?;
    let length_ms = match kind {
        TableKind::Windows => reader.count("window length", u32::MAX as usize)? as u32,
        _ => 0,
    };
    let rows = reader.count("rows", ROWS_MAX)?;
    let width = match kind {
        TableKind::Gaps => GAP_COLUMNS,
        _ => reader.count("columns", COLUMNS_MAX)?,
    };
    Ok(Head {
        kind,
        group,
        length_ms,
        rows,
        width,
        at,
    })
}

/// The heads of a keyframe: those of later payloads are mostly the same, in the same order.
#[derive(Debug)]
struct Known<'a> {
    heads: &'a [Head],
    /// Where the one after the last one used stands.
    next: usize,
}

impl<'a> Known<'a> {
    fn new(heads: &'a [Head]) -> Known<'a> {
        Known { heads, next: 0 }
    }

    /// What decoding the keyframe takes counts against the limits, too.
    fn cells(&self) -> usize {
        let cells = self.heads.iter().map(|head| head.rows.max(1) * head.width);
        cells.sum()
    }

    /// The heads of its readings.
    fn readings(&self) -> impl Iterator<Item = &Head> {
        let heads = self.heads.iter();
        heads.filter(|head| head.kind == TableKind::Readings)
    }

    /// The heads of its readings, each with so many rows.
    ///
    /// # Errors
    /// `TooLarge` beyond the limits.
    fn alike(&self, rows: usize, cells_max: usize) -> Result<Vec<Head>, Error> {
        let mut limits = Limits::new(self.cells(), cells_max);
        let heads = self.readings().map(|head| {
            limits.add(rows, head.width)?;
            Ok(Head { rows, ..*head })
        });
        heads.collect()
    }

    /// How many rows each of these tables has, if they are of the same heads as its readings and
    /// all have as many; else 0.
    fn rows_alike(&self, tables: &[Table]) -> usize {
        let rows = tables.first().map_or(0, Table::rows);
        let is_alike = |(head, table): (&Head, &Table)| {
            (head.kind, head.group, head.width, rows)
                == (
                    table.kind(),
                    table.group(),
                    table.columns().len(),
                    table.rows(),
                )
        };
        if self.readings().count() == tables.len() && self.readings().zip(tables).all(is_alike) {
            rows
        } else {
            0
        }
    }

    /// How far on a head stands that is the same but for the rows, counted from 1; 0 for none.
    fn find(&mut self, head: &Head) -> u64 {
        let is_same = |other: &Head| {
            (head.kind, head.group, head.length_ms, head.width)
                == (other.kind, other.group, other.length_ms, other.width)
        };
        let turn = self.heads.iter().cycle().skip(self.next);
        match turn.take(self.heads.len()).position(is_same) {
            None => 0,
            Some(place) => {
                self.get(place + 1);
                place as u64 + 1
            }
        }
    }

    /// The head so far on, none for 0.
    fn get(&mut self, place: usize) -> Option<Head> {
        let at = (self.next + place.checked_sub(1)?).checked_rem(self.heads.len())?;
        self.next = at + 1;
        self.heads.get(at).copied()
    }
}
