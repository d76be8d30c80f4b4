//! Rows in, payloads out: keeps what has not been cut into a batch yet, and the windows over it.
//!
//! Everything here is a function of the rows and of the times passed in, so that replaying the
//! journal after a restart gives the same payloads, bit for bit.

mod columns;
mod demands;
mod group;
mod part;
mod pending;

use std::sync::Arc;

use group::Group;
use part::Part;

use crate::calendar::Calendar;
use crate::codec::{self, Keyframe};
use crate::demand::DemandShape;
use crate::error::Error;
use crate::reading::{Gap, Record, Row, RowView, GOOD, POINTS_MAX};
use crate::table::Table;
use crate::totaliser::Totaliser;
use crate::varint::{write_u64, Reader};
use crate::window::{PointKind, BRIDGE_PERIODS};

/// Cells after which a payload is full: at 10 bytes for the most hostile value it still fits the
/// largest message (256 KiB).
pub const CUT_CELLS_MAX: usize = 24_576;

const SNAPSHOT_VERSION: u8 = 3;

/// The shape of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupShape {
    period_ms: i64,
    kinds: Vec<PointKind>,
    /// Which points have statistics.
    sampled: Vec<bool>,
    /// Which points have demand, in what shape.
    demands: Vec<(usize, DemandShape)>,
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
        Ok(GroupShape {
            period_ms,
            sampled: vec![false; kinds.len()],
            demands: Vec::new(),
            kinds,
        })
    }

    /// The same, with the statistics of these points in every window.
    ///
    /// # Errors
    /// `InvalidArgument` for a point that there is not.
    pub fn with_statistics(mut self, points: &[usize]) -> Result<GroupShape, Error> {
        for &point in points {
            let sampled = self.sampled.get_mut(point);
            *sampled.ok_or(Error::InvalidArgument("no such point"))? = true;
        }
        Ok(self)
    }

    /// The same, with the demand of these points for every local day.
    ///
    /// # Errors
    /// `InvalidArgument` for a point that there is not or that is named twice, and for a slip below
    /// the group's period.
    pub fn with_demands(mut self, demands: &[(usize, DemandShape)]) -> Result<GroupShape, Error> {
        for &(point, demand) in demands {
            if point >= self.kinds.len() {
                return Err(Error::InvalidArgument("no such point"));
            }
            if self.demands.iter().any(|known| known.0 == point) {
                return Err(Error::InvalidArgument("the point has a demand already"));
            }
            if demand.slip_ms() < self.period_ms {
                return Err(Error::InvalidArgument(
                    "a demand's slip is not below the period its point is read in",
                ));
            }
            self.demands.push((point, demand));
        }
        Ok(self)
    }

    fn totalisers(&self) -> Vec<Option<Totaliser>> {
        let bridge_ms = self.period_ms * BRIDGE_PERIODS;
        let totaliser = |kind: &PointKind| match kind {
            PointKind::Guarded(guard) => Some(Totaliser::new(*guard, self.period_ms, bridge_ms)),
            PointKind::Gauge | PointKind::Totaliser => None,
        };
        self.kinds.iter().map(totaliser).collect()
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

/// The content of one payload, not encoded yet: that takes long enough for another thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// With the group's index.
    parts: Vec<(u32, Part)>,
    /// What they hold.
    pub counts: Counts,
}

impl Cut {
    /// The number of the codec that makes the fewest bytes of the tables, and these bytes.
    ///
    /// # Errors
    /// `TooLarge` beyond the limits of all codecs.
    pub fn encode(&self) -> Result<(u8, Vec<u8>), Error> {
        codec::encode_smallest(&self.tables()?)
    }

    /// As [`Cut::encode`], but perhaps on top of a keyframe so many sequences back.
    ///
    /// # Errors
    /// `InvalidArgument` for a distance that no payload can have; `TooLarge` as there.
    pub fn encode_on(&self, keyframe: &Keyframe, back: u8) -> Result<(u8, Vec<u8>), Error> {
        codec::encode_smallest_on(&self.tables()?, Some((keyframe, back)))
    }

    /// The bytes that one codec makes of the tables.
    ///
    /// # Errors
    /// `UnknownCodec`, or `TooLarge` beyond its limits.
    pub fn encode_as(&self, codec: u8) -> Result<Vec<u8>, Error> {
        codec::encode_as(codec, &self.tables()?)
    }

    fn tables(&self) -> Result<Vec<Table>, Error> {
        let mut tables = Vec::new();
        for (group, part) in &self.parts {
            part.tables(*group, &mut tables)?;
        }
        Ok(tables)
    }
}

/// All groups of a gateway.
#[derive(Clone, Debug)]
pub struct Aggregator {
    groups: Vec<Group>,
    late: u64,
}

impl Aggregator {
    /// An aggregator over these groups, with the windows of a site in Shanghai; those of
    /// [`crate::calendar::MONTH_MS`] are months. A window shorter than a group's period means
    /// nothing for it and is left out there.
    ///
    /// # Errors
    /// `InvalidArgument` for a window length outside (0, 2^32).
    pub fn new(shapes: Vec<GroupShape>, lengths_ms: &[i64]) -> Result<Aggregator, Error> {
        Aggregator::with_calendar(shapes, lengths_ms, Calendar::default())
    }

    /// As [`Aggregator::new`], at a site with this local time.
    ///
    /// # Errors
    /// As [`Aggregator::new`].
    pub fn with_calendar(
        shapes: Vec<GroupShape>,
        lengths_ms: &[i64],
        calendar: Calendar,
    ) -> Result<Aggregator, Error> {
        if lengths_ms.iter().any(|&it| u32::try_from(it).is_err()) {
            return Err(Error::InvalidArgument("window length out of range"));
        }
        let calendar = Arc::new(calendar);
        let groups = shapes
            .into_iter()
            .map(|shape| Group::new(shape, lengths_ms, &calendar))
            .collect::<Result<_, _>>()?;
        Ok(Aggregator { groups, late: 0 })
    }

    /// Take in a slot that was read; return its journal record.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown group, a row that does not fit it, or a slot not after the
    /// group's last one.
    #[allow(clippy::needless_pass_by_value)] // what is pushed is given away
    pub fn push_row(&mut self, group: u32, row: Row) -> Result<Vec<u8>, Error> {
        let mut record = Vec::new();
        self.push_view(group, row.view(), &mut record)?;
        Ok(record)
    }

    /// As [`Aggregator::push_row`], for a row that the caller keeps; append its journal record to
    /// `record`.
    ///
    /// # Errors
    /// As [`Aggregator::push_row`].
    pub fn push_view(
        &mut self,
        group: u32,
        row: RowView<'_>,
        record: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let state = self.group_mut(group)?;
        let is_whole = row.check(state.points())?;
        state.follow(row.due_ms, row.due_ms)?;
        let in_time = state.push(row, is_whole);
        if is_whole {
            row.write_whole(group, state.last_values(), record);
        } else {
            row.write(group, record);
        }
        self.late += u64::from(!in_time);
        Ok(())
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
        state.push_gap(gap)?;
        Ok(Record::Gap(group, gap).to_bytes())
    }

    /// Take in that another meter was found in the place of the group's, by its serial number;
    /// return the journal record. Its totalisers begin a new line.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown group.
    pub fn replace_meter(&mut self, group: u32) -> Result<Vec<u8>, Error> {
        self.group_mut(group)?.replace();
        Ok(Record::Replaced(group).to_bytes())
    }

    /// Take in that the clock was set, back or far ahead: the group's slots go on behind
    /// `last_due_ms`, whatever its last one was; return the journal record. Its windows end here as
    /// they are, and nothing is counted or held from before to behind.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown group.
    pub fn restart_group(&mut self, group: u32, last_due_ms: i64) -> Result<Vec<u8>, Error> {
        self.group_mut(group)?.restart(last_due_ms)?;
        Ok(Record::Restarted(group, last_due_ms).to_bytes())
    }

    /// Take in a journal record again.
    ///
    /// # Errors
    /// As for rows, and for bytes that are not a record.
    pub fn replay(&mut self, record: &[u8]) -> Result<(), Error> {
        match Record::from_bytes(record)? {
            Record::Row(group, row) => self.push_row(group, row)?,
            Record::Gap(group, gap) => self.push_gap(group, gap)?,
            Record::Replaced(group) => self.replace_meter(group)?,
            Record::Restarted(group, last_ms) => self.restart_group(group, last_ms)?,
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
            .map(Group::last_due_ms)
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

    /// Close windows that are due and take out what is pending, at most [`CUT_CELLS_MAX`] cells;
    /// `None` when nothing is. Call again until then.
    pub fn cut(&mut self, now_ms: i64) -> Option<Cut> {
        let mut parts = Vec::new();
        let mut counts = Counts::default();
        let mut room = CUT_CELLS_MAX;
        for (index, group) in (0_u32..).zip(&mut self.groups) {
            group.close_due(now_ms);
            let taken = group.cut(&mut room, &mut counts);
            parts.extend(taken.into_iter().map(|part| (index, part)));
        }
        (!parts.is_empty()).then_some(Cut { parts, counts })
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
            group.save(&mut out);
        }
        Ok(out)
    }

    /// Take over a snapshot of an aggregator of the same shape; what was taken in is forgotten.
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
            *group = group.fresh()?;
            group.load(&mut reader)?;
        }
        reader.end()
    }

    fn group_mut(&mut self, group: u32) -> Result<&mut Group, Error> {
        self.groups
            .get_mut(group as usize)
            .ok_or(Error::InvalidArgument("no such group"))
    }
}
