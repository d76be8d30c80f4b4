//! Rows of many payloads, put together by group and in the order of time: what history is made of.
//!
//! Owns how much of that is in memory at a time. A batch holds a minute of all meters, a piece of
//! history hours of one; in between rows wait, packed. A piece is complete when one more table would
//! not fit a payload of the mixed codec, or when too much waits. Knows neither files nor days.

mod pile;

use std::collections::{BTreeMap, VecDeque};

use self::pile::Pile;
use crate::codec::{encode_smallest, CM_CELLS_MAX};
use crate::error::Error;
use crate::table::{Table, TableKind};

/// Bytes that wait as they came, and packed.
const LOOSE_BYTES_MAX: usize = 2 << 20;
const PACKED_BYTES_MAX: usize = 3 << 20;

/// What is asked for together, and so stands in pieces of its own. The numbers are part of the
/// format of history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Readings, and gaps between them.
    Readings,
    /// Windows, and what else is made of readings.
    Windows,
}

impl Family {
    /// Number in the format of history.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Family::Readings => 1,
            Family::Windows => 2,
        }
    }

    fn of(kind: TableKind) -> Family {
        match kind {
            TableKind::Readings | TableKind::Gaps => Family::Readings,
            TableKind::Windows
            | TableKind::Audits
            | TableKind::Uncertainties
            | TableKind::Statistics
            | TableKind::Demands => Family::Windows,
        }
    }
}

/// Rows of one group, encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Index of the group in the catalogue.
    pub group: u32,
    /// What the rows are.
    pub family: Family,
    /// The time of its earliest row: slot, start of window or day, closing of an audit.
    pub first_ms: i64,
    /// The time of its latest row.
    pub last_ms: i64,
    /// Number of the codec.
    pub codec: u8,
    /// A payload that refers to no other.
    pub payload: Vec<u8>,
}

type Key = (u32, Family);

/// Takes tables in, gives pieces out. Every row comes out once, rows of one time in the order in
/// which they came.
#[derive(Debug)]
pub struct Sorter {
    piles: BTreeMap<Key, Pile>,
    complete: VecDeque<(Key, Pile)>,
    loose_bytes: usize,
    loose_bytes_max: usize,
    packed_bytes_max: usize,
}

impl Default for Sorter {
    fn default() -> Sorter {
        Sorter::with_room(LOOSE_BYTES_MAX, PACKED_BYTES_MAX)
    }
}

impl Sorter {
    /// One that nothing waits in.
    #[must_use]
    pub fn new() -> Sorter {
        Sorter::default()
    }

    /// One in which so many bytes may wait as they came, and so many packed.
    #[must_use]
    pub fn with_room(loose_bytes_max: usize, packed_bytes_max: usize) -> Sorter {
        Sorter {
            piles: BTreeMap::new(),
            complete: VecDeque::new(),
            loose_bytes: 0,
            loose_bytes_max,
            packed_bytes_max,
        }
    }

    /// Take in the tables of a payload. Then call [`Sorter::pop`] until it has none.
    ///
    /// # Errors
    /// Those of the codec that rows wait in; a table that a decoder has let through has none.
    pub fn take(&mut self, tables: Vec<Table>) -> Result<(), Error> {
        for table in tables {
            if table.rows() == 0 {
                continue;
            }
            let key = (table.group(), Family::of(table.kind()));
            let pile = self.piles.entry(key).or_default();
            let cells = table.rows() * table.columns().len();
            if pile.cells() > 0 && pile.cells() + cells > CM_CELLS_MAX {
                self.loose_bytes -= pile.loose_bytes();
                self.complete.push_back((key, std::mem::take(pile)));
            }
            self.loose_bytes += pile.add(table);
        }
        if self.loose_bytes > self.loose_bytes_max {
            self.pack()?;
        }
        Ok(())
    }

    /// Return the next complete piece; with `all` also those that are not.
    ///
    /// # Errors
    /// Those of the codecs, as for [`Sorter::take`].
    pub fn pop(&mut self, all: bool) -> Result<Option<Piece>, Error> {
        let mut next = self.complete.pop_front();
        if next.is_none() && all {
            next = self.piles.pop_first();
            if let Some((_, pile)) = &next {
                self.loose_bytes -= pile.loose_bytes();
            }
        }
        let Some(((group, family), pile)) = next else {
            return Ok(None);
        };
        let (tables, (first_ms, last_ms)) = pile.sorted()?;
        let (codec, payload) = encode_smallest(&tables)?;
        Ok(Some(Piece {
            group,
            family,
            first_ms,
            last_ms,
            codec,
            payload,
        }))
    }

    /// Pack everything, and complete the largest piles while too much waits.
    fn pack(&mut self) -> Result<(), Error> {
        let mut waiting = 0;
        for pile in self.piles.values_mut() {
            pile.pack()?;
            waiting += pile.packed_bytes();
        }
        self.loose_bytes = 0;
        while waiting > self.packed_bytes_max {
            let largest = self
                .piles
                .iter()
                .max_by_key(|(_, pile)| pile.packed_bytes());
            let Some(key) = largest.map(|(key, _)| *key) else {
                return Ok(());
            };
            if let Some(pile) = self.piles.remove(&key) {
                waiting -= pile.packed_bytes();
                self.complete.push_back((key, pile));
            }
        }
        Ok(())
    }
}
