//! Payload codec 0: msgpack arrays of integers, for readers that have nothing but msgpack. Byte
//! for byte in `docs/batch-format.md`.

use super::head::check;
use super::{CELLS_MAX, COLUMNS_MAX, ROWS_MAX, TABLES_MAX};
use crate::error::Error;
use crate::table::{Column, Table, TableKind};
use crate::varint::Reader;

const NIL: u8 = 0xc0;
/// Kind, group, window length, columns.
const TABLE_ITEMS: usize = 4;

/// Encode tables with codec 0.
///
/// # Errors
/// `TooLarge` beyond the limits: what cannot be decoded is never written.
pub(super) fn encode(tables: &[Table]) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    let mut cells = 0;
    check("tables", tables.len(), TABLES_MAX)?;
    write_array(&mut out, tables.len());
    for table in tables {
        check("rows", table.rows(), ROWS_MAX)?;
        check("columns", table.columns().len(), COLUMNS_MAX)?;
        cells += table.rows() * table.columns().len();
        check("cells", cells, CELLS_MAX)?;
        write_array(&mut out, TABLE_ITEMS);
        write_integer(&mut out, i64::from(table.kind().code()));
        write_integer(&mut out, i64::from(table.group()));
        write_integer(&mut out, i64::from(table.length_ms()));
        write_array(&mut out, table.columns().len());
        for column in table.columns() {
            write_array(&mut out, column.len());
            for cell in column {
                match cell {
                    Some(value) => write_integer(&mut out, *value),
                    None => out.push(NIL),
                }
            }
        }
    }
    Ok(out)
}

/// Decode a payload of codec 0.
///
/// # Errors
/// `Truncated`, `Corrupt` or `TooLarge`; never more than [`CELLS_MAX`] cells are allocated.
pub(super) fn decode(payload: &[u8]) -> Result<Vec<Table>, Error> {
    let mut reader = Reader::new(payload);
    let count = read_array(&mut reader, "tables", TABLES_MAX)?;
    let mut tables = Vec::new();
    let mut cells = 0;
    for _ in 0..count {
        tables.push(read_table(&mut reader, &mut cells)?);
    }
    reader.end()?;
    Ok(tables)
}

fn read_table(reader: &mut Reader<'_>, cells: &mut usize) -> Result<Table, Error> {
    let at = reader.position();
    let corrupt = |what| Error::Corrupt { at, what };
    if read_array(reader, "items", TABLE_ITEMS)? != TABLE_ITEMS {
        return Err(corrupt("table"));
    }
    let kind = u8::try_from(read_integer(reader)?)
        .ok()
        .and_then(TableKind::from_code)
        .ok_or(corrupt("table kind"))?;
    let group = u32::try_from(read_integer(reader)?).map_err(|_| corrupt("group number"))?;
    let length_ms = u32::try_from(read_integer(reader)?).map_err(|_| corrupt("window length"))?;
    let width = read_array(reader, "columns", COLUMNS_MAX)?;
    let mut columns = Vec::with_capacity(width);
    for _ in 0..width {
        let rows = read_array(reader, "rows", ROWS_MAX)?;
        *cells += rows;
        check("cells", *cells, CELLS_MAX)?;
        columns.push(read_column(reader, rows)?);
    }
    Table::new(kind, group, length_ms, columns).map_err(|_| corrupt("table shape"))
}

fn read_column(reader: &mut Reader<'_>, rows: usize) -> Result<Column, Error> {
    // a cell takes a byte at least
    if rows > reader.remaining() {
        return Err(Error::Truncated {
            at: reader.position(),
        });
    }
    let mut column = Vec::with_capacity(rows);
    for _ in 0..rows {
        column.push(read_cell(reader)?);
    }
    Ok(column)
}

fn write_array(out: &mut Vec<u8>, count: usize) {
    match (u8::try_from(count), u16::try_from(count)) {
        (Ok(count @ 0..16), _) => out.push(0x90 | count),
        (_, Ok(count)) => {
            out.push(0xdc);
            out.extend(count.to_be_bytes());
        }
        _ => {
            out.push(0xdd);
            out.extend((count as u32).to_be_bytes());
        }
    }
}

/// In the fewest bytes that msgpack has for it.
fn write_integer(out: &mut Vec<u8>, value: i64) {
    let bytes = value.to_be_bytes();
    let (head, count) = match value {
        -32..=127 => {
            out.push(value as u8);
            return;
        }
        128..=0xff => (0xcc, 1),
        0x100..=0xffff => (0xcd, 2),
        0x1_0000..=0xffff_ffff => (0xce, 4),
        0x1_0000_0000.. => (0xcf, 8),
        -0x80..=-33 => (0xd0, 1),
        -0x8000..=-0x81 => (0xd1, 2),
        -0x8000_0000..=-0x8001 => (0xd2, 4),
        ..=-0x8000_0001 => (0xd3, 8),
    };
    out.push(head);
    out.extend(bytes.iter().skip(8 - count));
}

fn read_array(reader: &mut Reader<'_>, what: &'static str, max: usize) -> Result<usize, Error> {
    let at = reader.position();
    let found = match reader.byte()? {
        head @ 0x90..=0x9f => u64::from(head & 0x0f),
        0xdc => read_unsigned(reader, 2)?,
        0xdd => read_unsigned(reader, 4)?,
        _ => return Err(Error::Corrupt { at, what: "array" }),
    };
    check(what, found as usize, max)?;
    Ok(found as usize)
}

fn read_integer(reader: &mut Reader<'_>) -> Result<i64, Error> {
    let at = reader.position();
    read_cell(reader)?.ok_or(Error::Corrupt {
        at,
        what: "integer",
    })
}

fn read_cell(reader: &mut Reader<'_>) -> Result<Option<i64>, Error> {
    let at = reader.position();
    let head = reader.byte()?;
    let value = match head {
        0x00..=0x7f => i64::from(head),
        0xe0..=0xff => i64::from(head as i8),
        0xcc..=0xcf => {
            let value = read_unsigned(reader, 1 << (head - 0xcc))?;
            i64::try_from(value).map_err(|_| Error::Corrupt {
                at,
                what: "integer",
            })?
        }
        0xd0..=0xd3 => {
            let bytes = 1 << (head - 0xd0);
            let unused = 64 - 8 * bytes;
            ((read_unsigned(reader, bytes)? << unused) as i64) >> unused
        }
        NIL => return Ok(None),
        _ => {
            return Err(Error::Corrupt {
                at,
                what: "integer or nil",
            })
        }
    };
    Ok(Some(value))
}

fn read_unsigned(reader: &mut Reader<'_>, bytes: u32) -> Result<u64, Error> {
    let mut value = 0;
    for _ in 0..bytes {
        value = value << 8 | u64::from(reader.byte()?);
    }
    Ok(value)
}
