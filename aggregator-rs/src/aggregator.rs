//! Rows in, payloads out: keeps what has not been cut into a batch yet, and the windows over it.
//!
//! Everything here is a function of the rows and of the times passed in, so that replaying the
//! journal after a restart gives the same payloads, bit for bit.

use crate::codec::{self, ROWS_MAX};
use crate::error::Error;
use crate::reading::{Gap, Record, Row, GOOD, POINTS_MAX};
use crate::table::{Column, Table, TableKind, GAP_COLUMNS, READING_LEAD, WINDOW_COLUMNS};
use crate::varint::{write_i64, write_option, write_u64, Reader};
use crate::window::{Good, PointKind, WindowRow, Windows, HOLD_PERIODS};

/// Cells after which a payload is full: at 10 bytes for the most hostile value it still fits the
/// largest message (256 KiB).
pub const CUT_CELLS_MAX: usize = 24_576;

const SNAPSHOT_VERSION: u8 = 1;

/// The shape of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupShape {
    period_ms: i64,
    kinds: Vec<PointKind>,
}

impl GroupShape {
    /// A group of points of these kinds, read every `period_ms`.
    ///
    /// # Errors
    /// `InvalidArgument` for no points, too many, or a period that is not positive.
    pub fn new(period_ms: i64, kinds: Vec<PointKind>) -> Result<GroupShape, Error> {
        if kinds.is_empty() || kinds.len() > POINTS_MAX {
            return Err(Error::InvalidArgument("a group has 1 to 512 points"));
        }
        if period_ms <= 0 {
            return Err(Error::InvalidArgument("a period must be positive"));
        }
        Ok(GroupShape { period_ms, kinds })
    }
}

/// What a payload holds, counted in point slots (one point due once).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Slots with a value.
    pub values: u64,
    /// Slots with a reason instead.
    pub reasons: u64,
    /// Slots that nobody read, declared as gaps.
    pub missed: u64,
    /// Closed windows, one per group and length.
    pub windows: u64,
}

/// A payload and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The encoded tables.
    pub payload: Vec<u8>,
    /// What they hold.
    pub counts: Counts,
}

#[derive(Clone, Debug)]
struct Group {
    shape: GroupShape,
    good: Vec<Option<Good>>,
    windows: Vec<Windows>,
    last_due_ms: Option<i64>,
    rows: Vec<Row>,
    gaps: Vec<Gap>,
    /// Closed and not yet cut, per entry of `windows`.
    closed: Vec<Vec<WindowRow>>,
}

/// All groups of a gateway.
#[derive(Clone, Debug)]
pub struct Aggregator {
    groups: Vec<Group>,
    late: u64,
}

impl Aggregator {
    /// An aggregator over these groups. A window shorter than a group's period means nothing for
    /// it and is left out there.
    ///
    /// # Errors
    /// `InvalidArgument` for a window length outside (0, 2^32).
    pub fn new(shapes: Vec<GroupShape>, lengths_ms: &[i64]) -> Result<Aggregator, Error> {
        let mut groups = Vec::with_capacity(shapes.len());
        for shape in shapes {
            let mut windows = Vec::new();
            for &length_ms in lengths_ms {
                if u32::try_from(length_ms).is_err() {
                    return Err(Error::InvalidArgument("window length out of range"));
                }
                if length_ms >= shape.period_ms {
                    windows.push(Windows::new(
                        length_ms,
                        shape.period_ms,
                        shape.kinds.clone(),
                    )?);
                }
            }
            groups.push(Group {
                good: vec![None; shape.kinds.len()],
                closed: vec![Vec::new(); windows.len()],
                windows,
                last_due_ms: None,
                rows: Vec::new(),
                gaps: Vec::new(),
                shape,
            });
        }
        Ok(Aggregator { groups, late: 0 })
    }

    /// Take in a slot that was read; return its journal record.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown group, a row that does not fit it, or a slot not after the
    /// group's last one.
    pub fn push_row(&mut self, group: u32, row: Row) -> Result<Vec<u8>, Error> {
        let state = self.group_mut(group)?;
        row.check(state.shape.kinds.len())?;
        state.follow(row.due_ms, row.due_ms)?;
        let record = Record::Row(group, row);
        let bytes = record.to_bytes();
        if let Record::Row(_, row) = record {
            self.late += u64::from(!self.group_mut(group)?.push(row));
        }
        Ok(bytes)
    }

    /// Take in a run of slots that nobody read; return its journal record.
    ///
    /// # Errors
    /// `InvalidArgument` as for rows.
    pub fn push_gap(&mut self, group: u32, gap: Gap) -> Result<Vec<u8>, Error> {
        let state = self.group_mut(group)?;
        if gap.slots == 0 || gap.reason == GOOD || gap.last_due_ms < gap.first_due_ms {
            return Err(Error::InvalidArgument("a gap has slots and a reason"));
        }
        state.follow(gap.first_due_ms, gap.last_due_ms)?;
        state.gaps.push(gap);
        Ok(Record::Gap(group, gap).to_bytes())
    }

    /// Take in a journal record again.
    ///
    /// # Errors
    /// As for rows, and for bytes that are not a record.
    pub fn replay(&mut self, record: &[u8]) -> Result<(), Error> {
        match Record::from_bytes(record)? {
            Record::Row(group, row) => self.push_row(group, row)?,
            Record::Gap(group, gap) => self.push_gap(group, gap)?,
        };
        Ok(())
    }

    /// The last slot known of a group.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown group.
    pub fn last_due_ms(&self, group: u32) -> Result<Option<i64>, Error> {
        let state = self.groups.get(group as usize);
        state
            .map(|group| group.last_due_ms)
            .ok_or(Error::InvalidArgument("no such group"))
    }

    /// Rows that came too late for their window (they are delivered as readings all the same).
    #[must_use]
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Cells waiting to be cut, windows that have not closed left out.
    #[must_use]
    pub fn pending_cells(&self) -> usize {
        self.groups.iter().map(Group::pending_cells).sum()
    }

    /// Close windows that are due and encode what is pending, at most [`CUT_CELLS_MAX`] cells;
    /// `None` when nothing is. Call again until then.
    ///
    /// # Errors
    /// Those of the codec.
    pub fn cut(&mut self, now_ms: i64) -> Result<Option<Cut>, Error> {
        let mut tables = Vec::new();
        let mut counts = Counts::default();
        let mut room = CUT_CELLS_MAX;
        for (index, group) in (0_u32..).zip(&mut self.groups) {
            group.close_due(now_ms);
            group.cut(index, &mut room, &mut tables, &mut counts)?;
        }
        if tables.is_empty() {
            return Ok(None);
        }
        let payload = codec::encode(&tables)?;
        Ok(Some(Cut { payload, counts }))
    }

    /// The whole state, when nothing is pending.
    ///
    /// # Errors
    /// `InvalidArgument` while cells are pending.
    pub fn snapshot(&self) -> Result<Vec<u8>, Error> {
        if self.pending_cells() > 0 {
            return Err(Error::InvalidArgument("cut everything before a snapshot"));
        }
        let mut out = vec![SNAPSHOT_VERSION];
        write_u64(&mut out, self.late);
        for group in &self.groups {
            write_option(&mut out, group.last_due_ms);
            for good in &group.good {
                write_option(&mut out, good.map(|good| good.at_ms));
                if let Some(good) = good {
                    write_i64(&mut out, good.value);
                    write_i64(&mut out, good.held_until_ms);
                }
            }
            for windows in &group.windows {
                windows.save(&mut out);
            }
        }
        Ok(out)
    }

    /// Take over a snapshot of an aggregator of the same shape.
    ///
    /// # Errors
    /// `Truncated`, `Corrupt` or `TooLarge` when it is not one.
    pub fn restore(&mut self, snapshot: &[u8]) -> Result<(), Error> {
        let mut reader = Reader::new(snapshot);
        if reader.byte()? != SNAPSHOT_VERSION {
            return Err(Error::Corrupt {
                at: 0,
                what: "snapshot version",
            });
        }
        self.late = reader.u64()?;
        for group in &mut self.groups {
            group.last_due_ms = reader.option()?;
            for good in &mut group.good {
                *good = match reader.option()? {
                    None => None,
                    Some(at_ms) => Some(Good {
                        at_ms,
                        value: reader.i64()?,
                        held_until_ms: reader.i64()?,
                    }),
                };
            }
            for windows in &mut group.windows {
                windows.load(&mut reader)?;
            }
        }
        reader.end()
    }

    fn group_mut(&mut self, group: u32) -> Result<&mut Group, Error> {
        self.groups
            .get_mut(group as usize)
            .ok_or(Error::InvalidArgument("no such group"))
    }
}

impl Group {
    /// Check that slots come in order, and remember the last one.
    fn follow(&mut self, first_due_ms: i64, last_due_ms: i64) -> Result<(), Error> {
        if self.last_due_ms.is_some_and(|last| first_due_ms <= last) {
            return Err(Error::InvalidArgument(
                "a slot must lie after the group's last one",
            ));
        }
        self.last_due_ms = Some(last_due_ms);
        Ok(())
    }

    fn push(&mut self, row: Row) -> bool {
        let mut in_time = true;
        for windows in &mut self.windows {
            in_time &= windows.push(&row, &self.good);
        }
        let hold_ms = self.shape.period_ms * HOLD_PERIODS;
        for (good, value) in self.good.iter_mut().zip(&row.values) {
            match (value, good.as_mut()) {
                (Some(value), _) => {
                    *good = Some(Good {
                        at_ms: row.at_ms,
                        value: *value,
                        held_until_ms: row.at_ms.saturating_add(hold_ms),
                    });
                }
                (None, Some(held)) => held.held_until_ms = held.held_until_ms.min(row.at_ms),
                (None, None) => {}
            }
        }
        self.rows.push(row);
        in_time
    }

    fn close_due(&mut self, now_ms: i64) {
        for (windows, closed) in self.windows.iter_mut().zip(&mut self.closed) {
            closed.append(&mut windows.close_due(now_ms, &self.good));
        }
    }

    fn reading_width(&self) -> usize {
        READING_LEAD + 2 * self.shape.kinds.len()
    }

    fn window_width(&self) -> usize {
        1 + WINDOW_COLUMNS * self.shape.kinds.len()
    }

    fn pending_cells(&self) -> usize {
        let closed: usize = self.closed.iter().map(Vec::len).sum();
        self.rows.len() * self.reading_width()
            + self.gaps.len() * GAP_COLUMNS
            + closed * self.window_width()
    }

    /// Move what fits into tables; gaps and readings before the windows over them.
    fn cut(
        &mut self,
        index: u32,
        room: &mut usize,
        tables: &mut Vec<Table>,
        counts: &mut Counts,
    ) -> Result<(), Error> {
        let points = self.shape.kinds.len();
        let gaps = take_rows(&mut self.gaps, GAP_COLUMNS, room);
        if !gaps.is_empty() {
            let slots: u64 = gaps.iter().map(|gap| u64::from(gap.slots)).sum();
            counts.missed += slots * points as u64;
            tables.push(Table::new(TableKind::Gaps, index, 0, gap_columns(&gaps))?);
        }
        let width = self.reading_width();
        let rows = take_rows(&mut self.rows, width, room);
        if !rows.is_empty() {
            let values: usize = rows
                .iter()
                .map(|row| row.values.iter().flatten().count())
                .sum();
            counts.values += values as u64;
            counts.reasons += (rows.len() * points - values) as u64;
            tables.push(Table::new(
                TableKind::Readings,
                index,
                0,
                reading_columns(&rows, points),
            )?);
        }
        let width = self.window_width();
        for (windows, closed) in self.windows.iter().zip(&mut self.closed) {
            let rows = take_rows(closed, width, room);
            if !rows.is_empty() {
                counts.windows += rows.len() as u64;
                let length_ms = windows.length_ms() as u32;
                let columns = window_columns(&rows, width);
                tables.push(Table::new(TableKind::Windows, index, length_ms, columns)?);
            }
        }
        Ok(())
    }
}

fn take_rows<T>(pending: &mut Vec<T>, width: usize, room: &mut usize) -> Vec<T> {
    let fits = pending.len().min(*room / width).min(ROWS_MAX);
    *room -= fits * width;
    pending.drain(..fits).collect()
}

fn gap_columns(gaps: &[Gap]) -> Vec<Column> {
    vec![
        gaps.iter().map(|gap| Some(gap.first_due_ms)).collect(),
        gaps.iter().map(|gap| Some(gap.last_due_ms)).collect(),
        gaps.iter().map(|gap| Some(i64::from(gap.slots))).collect(),
        gaps.iter().map(|gap| Some(i64::from(gap.reason))).collect(),
    ]
}

fn reading_columns(rows: &[Row], points: usize) -> Vec<Column> {
    let mut columns = vec![
        rows.iter().map(|row| Some(row.due_ms)).collect(),
        rows.iter()
            .map(|row| Some(row.at_ms.wrapping_sub(row.due_ms)))
            .collect(),
    ];
    for point in 0..points {
        let value = |row: &Row| row.values.get(point).copied().flatten();
        columns.push(rows.iter().map(value).collect());
    }
    for point in 0..points {
        let quality = |row: &Row| row.qualities.get(point).map(|&quality| i64::from(quality));
        columns.push(rows.iter().map(quality).collect());
    }
    columns
}

fn window_columns(rows: &[WindowRow], width: usize) -> Vec<Column> {
    let mut columns = vec![rows.iter().map(|(start_ms, _)| Some(*start_ms)).collect()];
    for column in 0..width - 1 {
        let value = |(_, row): &WindowRow| row.get(column).copied().flatten();
        columns.push(rows.iter().map(value).collect());
    }
    columns
}
