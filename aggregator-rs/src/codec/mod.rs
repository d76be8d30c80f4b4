//! Payload codecs: tables to bytes and back. Byte for byte in `docs/batch-format.md`.
//!
//! Owns the codecs' numbers and the limits that all of them keep.

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

pub use cm::CM_CELLS_MAX;
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
        CODEC_CM => cm::encode(tables),
        _ => Err(Error::UnknownCodec(codec)),
    }
}

/// Encode tables with the codec that makes the fewest bytes; return its number too.
///
/// # Errors
/// `TooLarge` beyond the limits of all codecs.
pub fn encode_smallest(tables: &[Table]) -> Result<(u8, Vec<u8>), Error> {
    let delta = delta::encode(tables)?;
    Ok(match cm::encode(tables) {
        Ok(mixed) if mixed.len() < delta.len() => (CODEC_CM, mixed),
        _ => (CODEC_DELTA, delta),
    })
}

/// Decode a payload; the codec's number stands in the envelope.
///
/// # Errors
/// `UnknownCodec`, `Truncated`, `Corrupt` or `TooLarge`; never more than [`CELLS_MAX`] cells are
/// allocated.
pub fn decode(codec: u8, payload: &[u8]) -> Result<Vec<Table>, Error> {
    match codec {
        CODEC_PLAIN => plain::decode(payload),
        CODEC_DELTA => delta::decode(payload),
        CODEC_CM => cm::decode(payload),
        _ => Err(Error::UnknownCodec(codec)),
    }
}
