//! Payload codec 2: context mixing with adaptive predictors. Byte for byte in
//! `docs/batch-format.md`.
//!
//! Owns the order in which a payload's tables are walked, which is the same in both directions.

use super::head::{read_heads, write_heads, Head};
use super::mixing::Model;
use super::prior::PRIOR;
use super::range::{Coder, Decoder, Encoder};
use super::series::Series;
use super::summary::Fields;
use super::{summary, walk};
use crate::error::Error;
use crate::table::{Column, Table, TableKind};
use crate::varint::Reader;
use std::collections::BTreeMap;

/// Most cells one payload of this codec may hold, empty tables counting as one row: bounds the
/// time of decoding.
pub const CM_CELLS_MAX: usize = 24_576;

/// Columns that may be predicted by least squares, in one payload.
const RLS_MAX: usize = 4096;

const FORM_ALONE: u8 = 0;

/// Kind and width of a table: tables of one shape are taken for meters of one kind.
type Shape = (u8, usize);

/// What tables teach about later ones of the same shape.
#[derive(Clone, Debug)]
pub(super) struct Shaped {
    /// The last value known of each column.
    pub(super) last: Vec<i64>,
    pub(super) series: Vec<Option<Series>>,
}

/// What the walk knows: the same at each point of encoding and of decoding.
#[derive(Clone, Debug)]
pub(super) struct Knowledge {
    pub(super) model: Model,
    shaped: BTreeMap<(Shape, u32), Shaped>,
    /// The group of the last table of each shape.
    latest: BTreeMap<Shape, u32>,
    /// What windows teach.
    pub(super) fields: Fields,
    /// The last time that the walk came to.
    pub(super) clock_ms: i64,
    pub(super) rls_left: usize,
}

impl Knowledge {
    pub(super) fn new(model: Model) -> Knowledge {
        Knowledge {
            model,
            shaped: BTreeMap::new(),
            latest: BTreeMap::new(),
            fields: Fields::new(),
            clock_ms: 0,
            rls_left: RLS_MAX,
        }
    }

    /// Take out what is known of tables of this shape: of the same group, or else of the last one.
    pub(super) fn take(&mut self, head: &Head) -> Option<Shaped> {
        let shape = (head.kind.code(), head.width);
        let own = self.shaped.remove(&(shape, head.group));
        own.or_else(|| self.shaped.remove(&(shape, *self.latest.get(&shape)?)))
    }

    /// Keep what is known behind a table.
    pub(super) fn keep(&mut self, head: &Head, shaped: Shaped) {
        let shape = (head.kind.code(), head.width);
        self.latest.insert(shape, head.group);
        self.shaped.insert((shape, head.group), shaped);
    }

    pub(super) fn tables<C: Coder>(
        &mut self,
        coder: &mut C,
        heads: &[Head],
        columns: &mut [Vec<Column>],
        is_exhausted: impl Fn(&C) -> bool,
    ) -> bool {
        for (head, columns) in heads.iter().zip(columns) {
            match head.kind {
                TableKind::Windows => summary::table(self, coder, head, columns),
                TableKind::Readings
                | TableKind::Gaps
                | TableKind::Audits
                | TableKind::Uncertainties
                | TableKind::Statistics
                | TableKind::Demands => walk::table(self, coder, head, columns),
            }
            if is_exhausted(coder) {
                return false;
            }
        }
        true
    }
}

/// Encode tables with codec 2.
///
/// # Errors
/// `TooLarge` beyond [`CM_CELLS_MAX`] and the limits of the format.
pub(super) fn encode(tables: &[Table]) -> Result<Vec<u8>, Error> {
    let mut out = vec![FORM_ALONE];
    out.extend(checksum(tables).to_le_bytes());
    let heads = write_heads(&mut out, tables, CM_CELLS_MAX)?;
    let mut columns: Vec<Vec<Column>> = tables
        .iter()
        .map(|table| table.columns().to_vec())
        .collect();
    let mut coder = Encoder::new(out);
    Knowledge::new(Model::new(PRIOR)).tables(&mut coder, &heads, &mut columns, |_| false);
    Ok(coder.finish())
}

/// Decode a payload of codec 2.
///
/// # Errors
/// `Truncated`, `Corrupt` or `TooLarge`; never more than [`CM_CELLS_MAX`] cells are allocated.
pub(super) fn decode(payload: &[u8]) -> Result<Vec<Table>, Error> {
    let mut reader = Reader::new(payload);
    if reader.byte()? != FORM_ALONE {
        return Err(Error::Corrupt {
            at: 0,
            what: "form of the payload",
        });
    }
    let mut sum = [0; 4];
    for byte in &mut sum {
        *byte = reader.byte()?;
    }
    let heads = read_heads(&mut reader, CM_CELLS_MAX)?;
    let start = reader.position();
    let mut coder = Decoder::new(payload.get(start..).unwrap_or_default());
    let mut columns: Vec<Vec<Column>> = heads
        .iter()
        .map(|head| vec![vec![None; head.rows]; head.width])
        .collect();
    let mut knowledge = Knowledge::new(Model::new(PRIOR));
    if knowledge.tables(&mut coder, &heads, &mut columns, Decoder::is_exhausted) {
        coder.end(start)?;
    } else {
        return Err(Error::Truncated { at: payload.len() });
    }
    let mut tables = Vec::with_capacity(heads.len());
    for (head, columns) in heads.iter().zip(columns) {
        tables.push(head.table(columns)?);
    }
    if checksum(&tables).to_le_bytes() != sum {
        return Err(Error::Corrupt {
            at: 1,
            what: "checksum of the cells",
        });
    }
    Ok(tables)
}

/// CRC-32 of all cells, column by column: a 0 byte for an empty one, else a 1 byte and the value.
fn checksum(tables: &[Table]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    let mut bytes = Vec::new();
    for table in tables {
        for column in table.columns() {
            bytes.clear();
            for cell in column {
                bytes.push(u8::from(cell.is_some()));
                if let Some(value) = cell {
                    bytes.extend(value.to_le_bytes());
                }
            }
            sum.update(&bytes);
        }
    }
    sum.finalize()
}
