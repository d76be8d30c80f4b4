//! Rows: what one read of a group gave, the runs of slots that nobody read, and the words that a
//! meter was replaced or the clock was set. All have a record form for the gateway's journal, from which the aggregator
//! is rebuilt after a restart.

mod block;
mod values;

pub use block::{append, row_cells, Block};

use crate::error::Error;
use crate::varint::{write_i64, write_u64, Reader};

/// Quality of a reading that is good; any other number is a reason (see `edgeagg.model.Quality`).
pub const GOOD: u8 = 0;

/// Quality of a reading that the meter or its profile rules out.
pub const IMPLAUSIBLE: u8 = 4;

/// Most points one group may have.
pub const POINTS_MAX: usize = 512;

/// Bytes in front of a row's qualities, at most.
const ROW_HEAD_MAX: usize = 32;

const TAG_ROW: u8 = 1;
const TAG_GAP: u8 = 2;
const TAG_REPLACED: u8 = 3;
const TAG_RESTARTED: u8 = 4;

/// One slot of one group: every point has a value or a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// When the slot fell due, UTC milliseconds.
    pub due_ms: i64,
    /// When the values were taken (or given up), UTC milliseconds.
    pub at_ms: i64,
    /// Mantissas, in the order of the group's points.
    pub values: Vec<Option<i64>>,
    /// Quality per point.
    pub qualities: Vec<u8>,
}

/// A run of slots that nobody read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// First slot of the run.
    pub first_due_ms: i64,
    /// Last slot of the run.
    pub last_due_ms: i64,
    /// Slots in the run, both ends included.
    pub slots: u32,
    /// Why, as a quality number.
    pub reason: u8,
}

/// A journal record of the readings' journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A slot that was read.
    Row(u32, Row),
    /// Slots that were not.
    Gap(u32, Gap),
    /// Another meter was found in the place of the group's.
    Replaced(u32),
    /// The clock was set: the group goes on behind this slot, wherever it was before.
    Restarted(u32, i64),
}

/// A row that somebody else holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowView<'a> {
    /// As in [`Row`].
    pub due_ms: i64,
    /// As in [`Row`].
    pub at_ms: i64,
    /// As in [`Row`].
    pub values: &'a [Option<i64>],
    /// As in [`Row`].
    pub qualities: &'a [u8],
}

impl Row {
    /// The row, borrowed.
    #[must_use]
    pub fn view(&self) -> RowView<'_> {
        RowView {
            due_ms: self.due_ms,
            at_ms: self.at_ms,
            values: &self.values,
            qualities: &self.qualities,
        }
    }
}

impl RowView<'_> {
    /// Check that a value is absent exactly where the quality says why, or present and flagged;
    /// return whether the row is whole: a value for every point, and a good one.
    ///
    /// # Errors
    /// `InvalidArgument` when the number of values or qualities is not `points`, or a value is
    /// missing without a reason.
    pub fn check(self, points: usize) -> Result<bool, Error> {
        if self.values.len() != points || self.qualities.len() != points {
            return Err(Error::InvalidArgument(
                "a row needs one value or reason for every point of its group",
            ));
        }
        // no early end: a processor looks at many at once
        let all = |there: bool, value: &Option<i64>| there & value.is_some();
        if self.worst() == GOOD && self.values.iter().fold(true, all) {
            return Ok(true);
        }
        let mut cells = self.values.iter().zip(self.qualities);
        if cells.any(|(value, &quality)| value.is_none() && quality == GOOD) {
            return Err(Error::InvalidArgument(
                "a value is missing without a reason",
            ));
        }
        Ok(false)
    }

    /// The highest quality number.
    #[must_use]
    pub fn worst(self) -> u8 {
        self.qualities.iter().fold(GOOD, |a, &b| a.max(b))
    }

    /// Append the record of a row of this group.
    pub fn write(self, group: u32, out: &mut Vec<u8>) {
        let worst = self.worst();
        self.write_head(group, worst, out);
        if worst != GOOD {
            out.extend_from_slice(self.qualities);
        }
        values::write(self.values, out);
    }

    /// The same for a row that is whole; `values` are all of its values.
    pub fn write_whole(self, group: u32, values: &[i64], out: &mut Vec<u8>) {
        self.write_head(group, GOOD, out);
        values::write_whole(values, out);
    }

    fn write_head(self, group: u32, worst: u8, out: &mut Vec<u8>) {
        out.reserve(ROW_HEAD_MAX + self.qualities.len() + values::bytes_max(self.values.len()));
        out.push(TAG_ROW);
        write_u64(out, u64::from(group));
        write_i64(out, self.due_ms);
        write_i64(out, self.at_ms.wrapping_sub(self.due_ms));
        write_u64(out, self.values.len() as u64);
        out.push(worst);
    }
}

impl Record {
    /// Encode for the journal.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Record::Row(group, row) => row.view().write(*group, &mut out),
            Record::Gap(group, gap) => {
                out.push(TAG_GAP);
                write_u64(&mut out, u64::from(*group));
                write_i64(&mut out, gap.first_due_ms);
                write_i64(&mut out, gap.last_due_ms);
                write_u64(&mut out, u64::from(gap.slots));
                out.push(gap.reason);
            }
            Record::Replaced(group) => {
                out.push(TAG_REPLACED);
                write_u64(&mut out, u64::from(*group));
            }
            Record::Restarted(group, last_due_ms) => {
                out.push(TAG_RESTARTED);
                write_u64(&mut out, u64::from(*group));
                write_i64(&mut out, *last_due_ms);
            }
        }
        out
    }

    /// Decode what [`Record::to_bytes`] wrote.
    ///
    /// # Errors
    /// `Truncated`, `Corrupt` or `TooLarge`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Record, Error> {
        let mut reader = Reader::new(bytes);
        let tag = reader.byte()?;
        let group = reader.count("group number", u32::MAX as usize)? as u32;
        let record = match tag {
            TAG_ROW => {
                let due_ms = reader.i64()?;
                let at_ms = due_ms.wrapping_add(reader.i64()?);
                let points = reader.count("points", POINTS_MAX)?;
                let qualities = match reader.byte()? {
                    GOOD => vec![GOOD; points],
                    _ => (0..points)
                        .map(|_| reader.byte())
                        .collect::<Result<_, _>>()?,
                };
                let row = Row {
                    due_ms,
                    at_ms,
                    values: values::read(&mut reader, points)?,
                    qualities,
                };
                Record::Row(group, row)
            }
            TAG_GAP => Record::Gap(
                group,
                Gap {
                    first_due_ms: reader.i64()?,
                    last_due_ms: reader.i64()?,
                    slots: reader.count("slots", u32::MAX as usize)? as u32,
                    reason: reader.byte()?,
                },
            ),
            TAG_REPLACED => Record::Replaced(group),
            TAG_RESTARTED => Record::Restarted(group, reader.i64()?),
            _ => {
                return Err(Error::Corrupt {
                    at: 0,
                    what: "record tag",
                })
            }
        };
        reader.end()?;
        Ok(record)
    }
}
