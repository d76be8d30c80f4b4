//! Payload codec 2: context mixing with adaptive predictors. Byte for byte in
//! `docs/batch-format.md`.
//!
//! Owns the order in which a payload's tables are walked, which is the same in both directions.

use super::head::{read_heads, read_heads_on, write_heads, Head};
use super::mixing::Model;
use super::prior::PRIOR;
use super::range::{Coder, Decoder, Encoder};
use super::series::Series;
use super::summary::Fields;
use super::{summary, walk, TABLES_MAX};
use crate::error::Error;
use crate::table::{Column, Table, TableKind};
use crate::varint::{write_u64, Reader};
use std::collections::BTreeMap;

/// Most cells one payload of this codec may hold, empty tables counting as one row: bounds the
/// time of decoding.
pub const CM_CELLS_MAX: usize = 24_576;

/// Columns that may be predicted from others, in one payload and its keyframe.
const BESIDE_MAX: usize = 4096;

/// The farthest back that a keyframe may be: forms from 1 on say how far it is.
pub const BACK_MAX: u8 = 16;
/// A payload that stands alone, with so many tables that their number follows.
const FORM_ALONE: u8 = 0;
/// Forms from here on stand for payloads that stand alone, of no table, of one and so on.
const FORM_TABLES: u8 = BACK_MAX + 1;

/// Kind and width of a table: tables of one shape are taken for meters of one kind.
type Shape = (u8, usize);

/// What tables teach about later ones of the same shape.
#[derive(Clone, Debug)]
pub(super) struct Shaped {
    /// The last value known of each column.
    pub(super) last: Vec<i64>,
    /// What the values of each column last were multiples of.
    pub(super) units: Vec<i64>,
    pub(super) series: Vec<Option<Series>>,
    /// How many sequences back it was taught; 0 in the same payload.
    pub(super) back: u8,
}

impl Shaped {
    /// Slots from the last one of a former table to the first of a table with so many rows: the
    /// batches between them probably had as many.
    pub(super) fn slots(&self, rows: usize) -> i64 {
        i64::from(self.back.saturating_sub(1)) * rows as i64 + 1
    }
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
    pub(super) beside_left: usize,
}

impl Knowledge {
    pub(super) fn new(model: Model) -> Knowledge {
        Knowledge {
            model,
            shaped: BTreeMap::new(),
            latest: BTreeMap::new(),
            fields: Fields::new(),
            clock_ms: 0,
            beside_left: BESIDE_MAX,
        }
    }

    /// Begin a payload so many sequences behind the one that taught all this.
    pub(super) fn look_back(&mut self, back: u8) {
        for shaped in self.shaped.values_mut() {
            shaped.back = back;
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

/// What a self-contained payload taught, for payloads that begin there.
#[derive(Clone, Debug)]
pub struct Keyframe {
    knowledge: Knowledge,
    heads: Vec<Head>,
    sum: [u8; 4],
}

impl Keyframe {
    /// Decode a self-contained payload of codec 2 and keep what it taught.
    ///
    /// # Errors
    /// As [`decode`](super::decode); a payload that needs a keyframe itself is none.
    pub fn new(payload: &[u8]) -> Result<Keyframe, Error> {
        let (_, keyframe) = decode_with(payload, None)?;
        Ok(keyframe)
    }
}

/// How many sequences before a payload's own its keyframe is; none for a self-contained one.
///
/// # Errors
/// `Truncated` when there is no byte.
pub(super) fn anchor_of(payload: &[u8]) -> Result<Option<u8>, Error> {
    match Reader::new(payload).byte()? {
        back @ 1..=BACK_MAX => Ok(Some(back)),
        FORM_ALONE | FORM_TABLES.. => Ok(None),
    }
}

/// Encode tables with codec 2, on top of a keyframe so many sequences back.
///
/// # Errors
/// `InvalidArgument` for a distance that is not from 1 to [`BACK_MAX`]; `TooLarge` beyond
/// [`CM_CELLS_MAX`], for noise that takes too many decisions, and beyond the limits of the format.
pub(super) fn encode(tables: &[Table], anchor: Option<(&Keyframe, u8)>) -> Result<Vec<u8>, Error> {
    let (coder, model) = walked(tables, anchor)?;
    model.within_limits()?;
    Ok(coder.finish())
}

/// Walk the tables, whatever that takes.
fn walked(tables: &[Table], anchor: Option<(&Keyframe, u8)>) -> Result<(Encoder, Model), Error> {
    let (keyframe, form) = match anchor {
        None => (None, form_alone(tables.len())),
        Some((keyframe, back @ 1..=BACK_MAX)) => (Some(keyframe), back),
        Some(_) => {
            return Err(Error::InvalidArgument(
                "a keyframe is 1 to 16 sequences back",
            ))
        }
    };
    let mut out = vec![form];
    out.extend(checksum(tables, keyframe).iter().take(sum_bytes(keyframe)));
    if form == FORM_ALONE {
        write_u64(&mut out, tables.len() as u64);
    }
    let known = keyframe.map(|keyframe| keyframe.heads.as_slice());
    let heads = write_heads(&mut out, tables, CM_CELLS_MAX, known)?;
    let mut columns: Vec<Vec<Column>> = tables
        .iter()
        .map(|table| table.columns().to_vec())
        .collect();
    let mut coder = Encoder::new(out);
    let mut knowledge = knowledge_of(anchor);
    knowledge.tables(&mut coder, &heads, &mut columns, |_| false);
    Ok((coder, knowledge.model))
}

/// Decode a payload of codec 2; one that is anchored needs its keyframe.
///
/// # Errors
/// `NeedsKeyframe`, `Truncated`, `Corrupt` or `TooLarge`; never more than [`CM_CELLS_MAX`] cells
/// are allocated.
pub(super) fn decode(payload: &[u8], keyframe: Option<&Keyframe>) -> Result<Vec<Table>, Error> {
    decode_with(payload, keyframe).map(|(tables, _)| tables)
}

/// Decode a payload that begins with what `keyframe` taught, or one that is self-contained.
fn decode_with(
    payload: &[u8],
    keyframe: Option<&Keyframe>,
) -> Result<(Vec<Table>, Keyframe), Error> {
    let anchor = match (anchor_of(payload)?, keyframe) {
        (Some(back), None) => return Err(Error::NeedsKeyframe(back)),
        (Some(back), Some(keyframe)) => Some((keyframe, back)),
        (None, _) => None,
    };
    let keyframe = anchor.map(|(keyframe, _)| keyframe);
    let mut reader = Reader::new(payload);
    let form = reader.byte()?;
    let mut sum = [0; 4];
    for byte in sum.iter_mut().take(sum_bytes(keyframe)) {
        *byte = reader.byte()?;
    }
    let heads = match keyframe {
        None => {
            let tables = tables_alone(&mut reader, form)?;
            read_heads(&mut reader, CM_CELLS_MAX, tables)?
        }
        Some(keyframe) => read_heads_on(&mut reader, CM_CELLS_MAX, &keyframe.heads)?,
    };
    let start = reader.position();
    let mut coder = Decoder::new(payload.get(start..).unwrap_or_default());
    let mut columns: Vec<Vec<Column>> = heads
        .iter()
        .map(|head| vec![vec![None; head.rows]; head.width])
        .collect();
    let mut knowledge = knowledge_of(anchor);
    let is_whole = knowledge.tables(&mut coder, &heads, &mut columns, Decoder::is_exhausted);
    knowledge.model.within_limits()?;
    if !is_whole {
        return Err(Error::Truncated { at: payload.len() });
    }
    coder.end(start)?;
    let mut tables = Vec::with_capacity(heads.len());
    for (head, columns) in heads.iter().zip(columns) {
        tables.push(head.table(columns)?);
    }
    let found = checksum(&tables, keyframe);
    if found
        .iter()
        .zip(&sum)
        .take(sum_bytes(keyframe))
        .any(|(a, b)| a != b)
    {
        return Err(Error::Corrupt {
            at: 1,
            what: "checksum of the cells",
        });
    }
    let taught = Keyframe {
        knowledge,
        heads,
        sum: found,
    };
    Ok((tables, taught))
}

/// The form of a payload that stands alone.
fn form_alone(tables: usize) -> u8 {
    let form = u8::try_from(tables).map(|tables| tables.checked_add(FORM_TABLES));
    form.ok().flatten().unwrap_or(FORM_ALONE)
}

/// How many tables a payload of such a form has.
///
/// # Errors
/// `Truncated`, `TooLarge`, or `Corrupt` for a number that has a form of its own.
fn tables_alone(reader: &mut Reader<'_>, form: u8) -> Result<usize, Error> {
    if let Some(tables) = form.checked_sub(FORM_TABLES) {
        return Ok(usize::from(tables));
    }
    let at = reader.position();
    let tables = reader.count("tables", TABLES_MAX)?;
    if form_alone(tables) != FORM_ALONE {
        return Err(Error::Corrupt {
            at,
            what: "number of tables",
        });
    }
    Ok(tables)
}

fn knowledge_of(anchor: Option<(&Keyframe, u8)>) -> Knowledge {
    anchor.map_or_else(
        || Knowledge::new(Model::new(PRIOR)),
        |(keyframe, back)| {
            let mut knowledge = keyframe.knowledge.clone();
            knowledge.look_back(back);
            knowledge
        },
    )
}

/// How many bytes of the checksum a payload has: damage is the seal's to tell, and two of a small
/// payload are enough to tell a decoder that differs, or another keyframe.
fn sum_bytes(keyframe: Option<&Keyframe>) -> usize {
    if keyframe.is_none() {
        4
    } else {
        2
    }
}

/// CRC-32 of the keyframe's own checksum, if there is one, and of all cells, column by column: a
/// 0 byte for an empty one, else a 1 byte and the value.
fn checksum(tables: &[Table], keyframe: Option<&Keyframe>) -> [u8; 4] {
    let mut sum = crc32fast::Hasher::new();
    if let Some(keyframe) = keyframe {
        sum.update(&keyframe.sum);
    }
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
    sum.finalize().to_le_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Readings of one point that jump to and fro, each taking some 25 decisions.
    fn noise(rows: usize) -> Vec<Table> {
        let mut state = 7_u64;
        let mut jump = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            Some((state >> 43) as i64 - (1 << 20))
        };
        let columns = (0..4).map(|_| (0..rows).map(|_| jump()).collect());
        vec![Table::new(TableKind::Readings, 0, 0, columns.collect()).unwrap()]
    }

    #[test]
    fn noise_that_would_take_too_long_is_neither_written_nor_read() {
        let too_long = |error: &Error| {
            matches!(
                error,
                Error::TooLarge {
                    what: "decisions",
                    ..
                }
            )
        };
        let tables = noise(CM_CELLS_MAX / 4);
        assert!(too_long(&encode(&tables, None).unwrap_err()));
        let payload = walked(&tables, None).unwrap().0.finish();
        assert!(too_long(&decode(&payload, None).unwrap_err()));
    }

    #[test]
    fn what_a_keyframe_took_is_counted_too() {
        let tables = noise(2500);
        let payload = encode(&tables, None).unwrap();
        assert_eq!(decode(&payload, None), Ok(tables.clone()));
        let keyframe = Keyframe::new(&payload).unwrap();
        assert!(encode(&noise(10), Some((&keyframe, 1))).is_ok());
        let payload = walked(&tables, Some((&keyframe, 1))).unwrap().0.finish();
        let found = decode(&payload, Some(&keyframe));
        assert!(matches!(
            found,
            Err(Error::TooLarge {
                what: "decisions",
                ..
            })
        ));
    }
}
