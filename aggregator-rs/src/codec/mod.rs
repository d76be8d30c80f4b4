//! Payload codecs: tables to bytes and back. Byte for byte in `docs/batch-format.md`.
//!
//! Owns the codecs' numbers and the limits that all of them keep.

mod beside;
mod cm;
mod delta;
mod flags;
mod form;
mod head;
#[cfg(test)]
mod learning;
mod logistic;
mod mixing;
mod plain;
mod prior;
mod range;
mod rls;
mod scalar;
mod series;
mod summary;
mod walk;

use crate::error::Error;
use crate::table::Table;

pub use cm::{Keyframe, BACK_MAX, CM_CELLS_MAX};
pub use delta::encode;

/// Number of the plain msgpack codec in the batch envelope.
pub const CODEC_PLAIN: u8 = 0;
/// Number of the delta codec in the batch envelope.
pub const CODEC_DELTA: u8 = 1;
/// Number of the context-mixing codec.
pub const CODEC_CM: u8 = 2;

/// Most tables one payload may hold.
pub const TABLES_MAX: usize = 4096;
/// Most columns one table may hold.
pub const COLUMNS_MAX: usize = 8192;
/// Most rows one table may hold.
pub const ROWS_MAX: usize = 65_536;
/// Most cells (rows times columns) of all tables of one payload: bounds memory at 16 bytes a cell.
pub const CELLS_MAX: usize = 262_144;

/// Encode tables with the codec of this number.
///
/// # Errors
/// `UnknownCodec`, or `TooLarge` beyond the codec's limits: what cannot be decoded is never
/// written.
pub fn encode_as(codec: u8, tables: &[Table]) -> Result<Vec<u8>, Error> {
    match codec {
        CODEC_PLAIN => plain::encode(tables),
        CODEC_DELTA => delta::encode(tables),
        CODEC_CM => cm::encode(tables, None),
        _ => Err(Error::UnknownCodec(codec)),
    }
}

/// Encode tables with [`CODEC_CM`] on top of a keyframe so many sequences back.
///
/// # Errors
/// `InvalidArgument` for a distance beyond [`BACK_MAX`] or 0; `TooLarge` beyond the codec's limits.
pub fn encode_anchored(tables: &[Table], keyframe: &Keyframe, back: u8) -> Result<Vec<u8>, Error> {
    cm::encode(tables, Some((keyframe, back)))
}

/// Encode tables with the codec that makes the fewest bytes; return its number too.
///
/// # Errors
/// `TooLarge` beyond the limits of all codecs.
pub fn encode_smallest(tables: &[Table]) -> Result<(u8, Vec<u8>), Error> {
    encode_smallest_on(tables, None)
}

/// As [`encode_smallest`], but perhaps on top of a keyframe so many sequences back.
///
/// # Errors
/// `InvalidArgument` as [`encode_anchored`]; `TooLarge` beyond the limits of all codecs.
pub fn encode_smallest_on(
    tables: &[Table],
    anchor: Option<(&Keyframe, u8)>,
) -> Result<(u8, Vec<u8>), Error> {
    let mut best = (CODEC_DELTA, delta::encode(tables)?);
    let anchored = anchor.map(|anchor| cm::encode(tables, Some(anchor)));
    for mixed in [Some(cm::encode(tables, None)), anchored]
        .into_iter()
        .flatten()
    {
        match mixed {
            Ok(payload) if payload.len() < best.1.len() => best = (CODEC_CM, payload),
            Ok(_) | Err(Error::TooLarge { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(best)
}

/// How many sequences before a payload's own its keyframe is; none when it needs none.
///
/// # Errors
/// `Truncated` for no payload at all.
pub fn anchor_of(codec: u8, payload: &[u8]) -> Result<Option<u8>, Error> {
    match codec {
        CODEC_CM => cm::anchor_of(payload),
        _ => Ok(None),
    }
}

/// Decode a self-contained payload; the codec's number stands in the envelope.
///
/// # Errors
/// As [`decode_on`].
pub fn decode(codec: u8, payload: &[u8]) -> Result<Vec<Table>, Error> {
    decode_on(codec, payload, None)
}

/// Decode a payload that may need a keyframe; a self-contained one leaves it aside.
///
/// # Errors
/// `UnknownCodec`, `NeedsKeyframe`, `Truncated`, `Corrupt` or `TooLarge`; never more than
/// [`CELLS_MAX`] cells are allocated.
pub fn decode_on(
    codec: u8,
    payload: &[u8],
    keyframe: Option<&Keyframe>,
) -> Result<Vec<Table>, Error> {
    match codec {
        CODEC_PLAIN => plain::decode(payload),
        CODEC_DELTA => delta::decode(payload),
        CODEC_CM => cm::decode(payload, keyframe),
        _ => Err(Error::UnknownCodec(codec)),
    }
}
