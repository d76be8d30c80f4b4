//! Payload codec 1: plain delta columns. Byte for byte in `docs/batch-format.md`.

use super::head::check;
use super::{CELLS_MAX, COLUMNS_MAX, ROWS_MAX, TABLES_MAX};
use crate::error::Error;
use crate::table::{Column, Table, TableKind};
use crate::varint::{write_i64, write_u64, Reader};

const MODE_EMPTY: u8 = 0;
const MODE_CONSTANT: u8 = 1;
const MODE_STEPS: u8 = 2;
const MODE_DELTAS: u8 = 3;
const MODE_MASK: u8 = 0x0f;
const FLAG_PRESENCE: u8 = 0x10;

/// Encode tables with codec 1.
///
/// # Errors
/// `TooLarge` beyond the limits above: what cannot be decoded is never written.
pub fn encode(tables: &[Table]) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    check("tables", tables.len(), TABLES_MAX)?;
    write_u64(&mut out, tables.len() as u64);
    let mut cells = 0;
    for table in tables {
        check("rows", table.rows(), ROWS_MAX)?;
        check("columns", table.columns().len(), COLUMNS_MAX)?;
        cells += table.rows() * table.columns().len();
        check("cells", cells, CELLS_MAX)?;
        out.push(table.kind().code());
        write_u64(&mut out, u64::from(table.group()));
        write_u64(&mut out, u64::from(table.length_ms()));
        write_u64(&mut out, table.rows() as u64);
        write_u64(&mut out, table.columns().len() as u64);
        for column in table.columns() {
            encode_column(&mut out, column);
        }
    }
    Ok(out)
}

/// Decode a payload of codec 1.
///
/// # Errors
/// `Truncated`, `Corrupt` or `TooLarge`; never more than [`CELLS_MAX`] cells are
/// allocated.
pub(super) fn decode(payload: &[u8]) -> Result<Vec<Table>, Error> {
    let mut reader = Reader::new(payload);
    let count = reader.count("tables", TABLES_MAX)?;
    let mut tables = Vec::new();
    let mut cells = 0;
    for _ in 0..count {
        let table = decode_table(&mut reader, &mut cells)?;
        tables.push(table);
    }
    reader.end()?;
    Ok(tables)
}

fn decode_table(reader: &mut Reader<'_>, cells: &mut usize) -> Result<Table, Error> {
    let at = reader.position();
    let kind = TableKind::from_code(reader.byte()?).ok_or(Error::Corrupt {
        at,
        what: "table kind",
    })?;
    let group = reader.count("group number", u32::MAX as usize)? as u32;
    let length_ms = reader.count("window length", u32::MAX as usize)? as u32;
    let rows = reader.count("rows", ROWS_MAX)?;
    let width = reader.count("columns", COLUMNS_MAX)?;
    *cells += rows * width;
    check("cells", *cells, CELLS_MAX)?;
    let mut columns = Vec::with_capacity(width);
    for _ in 0..width {
        columns.push(decode_column(reader, rows)?);
    }
    Table::new(kind, group, length_ms, columns).map_err(|_| Error::Corrupt {
        at,
        what: "table shape",
    })
}

fn encode_column(out: &mut Vec<u8>, column: &Column) {
    let present: Vec<i64> = column.iter().copied().flatten().collect();
    let Some(&first) = present.first() else {
        out.push(MODE_EMPTY);
        return;
    };
    let step = present
        .get(1)
        .map_or(0, |second| second.wrapping_sub(first));
    let steady = present
        .windows(2)
        .all(|pair| matches!(pair, [a, b] if b.wrapping_sub(*a) == step));
    let mode = match (steady, step) {
        (true, 0) => MODE_CONSTANT,
        (true, _) => MODE_STEPS,
        (false, _) => MODE_DELTAS,
    };
    if present.len() == column.len() {
        out.push(mode);
    } else {
        out.push(mode | FLAG_PRESENCE);
        encode_presence(out, column);
    }
    write_i64(out, first);
    match mode {
        MODE_STEPS => write_i64(out, step),
        MODE_DELTAS => {
            for pair in present.windows(2) {
                if let [a, b] = pair {
                    write_i64(out, b.wrapping_sub(*a));
                }
            }
        }
        _ => {}
    }
}

/// Run lengths, present and absent in turn, beginning with present (which may be 0).
fn encode_presence(out: &mut Vec<u8>, column: &Column) {
    let mut present = true;
    let mut run = 0_u64;
    for value in column {
        if value.is_some() != present {
            write_u64(out, run);
            present = !present;
            run = 0;
        }
        run += 1;
    }
    write_u64(out, run);
}

fn decode_column(reader: &mut Reader<'_>, rows: usize) -> Result<Column, Error> {
    let at = reader.position();
    let head = reader.byte()?;
    let mode = head & MODE_MASK;
    if head & !(MODE_MASK | FLAG_PRESENCE) != 0 || mode > MODE_DELTAS {
        return Err(Error::Corrupt {
            at,
            what: "column mode",
        });
    }
    if mode == MODE_EMPTY {
        return Ok(vec![None; rows]);
    }
    let presence = if head & FLAG_PRESENCE == 0 {
        vec![true; rows]
    } else {
        decode_presence(reader, rows)?
    };
    let mut value = reader.i64()?;
    let step = if mode == MODE_STEPS { reader.i64()? } else { 0 };
    let mut column = Vec::with_capacity(rows);
    let mut first = true;
    for here in presence {
        if !here {
            column.push(None);
            continue;
        }
        if !first {
            let delta = if mode == MODE_DELTAS {
                reader.i64()?
            } else {
                step
            };
            value = value.wrapping_add(delta);
        }
        first = false;
        column.push(Some(value));
    }
    Ok(column)
}

fn decode_presence(reader: &mut Reader<'_>, rows: usize) -> Result<Vec<bool>, Error> {
    let mut presence = Vec::with_capacity(rows);
    let mut present = true;
    while presence.len() < rows {
        let at = reader.position();
        let run = reader.count("rows", rows - presence.len())?;
        // only the first run, of present values, may be empty
        if run == 0 && (!present || !presence.is_empty()) {
            return Err(Error::Corrupt {
                at,
                what: "presence run",
            });
        }
        presence.resize(presence.len() + run, present);
        present = !present;
    }
    Ok(presence)
}
