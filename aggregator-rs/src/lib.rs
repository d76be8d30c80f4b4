//! The core of edgeagg, shared by the gateway and the platform: replies to readings, windows over
//! them, the batch payload codec, and the journal both outbox and history stand on.
//!
//! Pure Rust; only [`python`] (feature `python`) knows of the interpreter. No clock is read here:
//! time is an argument, UTC milliseconds.

pub mod aggregator;
pub mod calendar;
pub mod codec;
pub mod decode;
pub mod demand;
pub mod error;
pub mod journal;
pub mod moments;
pub mod quantile;
pub mod reading;
pub mod rounding;
pub mod signature;
pub mod sorter;
pub mod table;
pub mod totaliser;
pub mod varint;
pub mod window;

#[cfg(feature = "python")]
mod python;
