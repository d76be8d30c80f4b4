//! Windows, batch codec and journal of edgeagg.
#[cfg(feature = "python")]
mod python;
