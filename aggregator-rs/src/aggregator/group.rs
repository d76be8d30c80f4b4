//! One group of a gateway, from its rows to what is cut of it.

mod calm;

use std::mem;
use std::sync::Arc;

use calm::Calm;

use super::demands::Demands;
use super::part::Part;
use super::pending::Pending;
use super::{Counts, GroupShape};
use crate::calendar::Calendar;
use crate::codec::ROWS_MAX;
use crate::error::Error;
use crate::reading::{Gap, RowView};
use crate::table::{
    AUDIT_COLUMNS, GAP_COLUMNS, READING_LEAD, STATISTICS_COLUMNS, STATISTICS_LEAD,
    UNCERTAINTY_LEAD, WINDOW_COLUMNS,
};
use crate::totaliser::{Audit, Outcome, Shown, Step, Totaliser};
use crate::varint::{write_i64, write_option, Reader};
use crate::window::{
    chains, Chain, Good, PointKind, PointStep, WindowRow, BRIDGE_PERIODS, HOLD_PERIODS, LATENESS_MS,
};

/// Behind the end of every window, and far enough from the largest number to be subtracted from.
const END_OF_TIME_MS: i64 = i64::MAX / 2;

/// One group: what is pending of it, and what its windows know.
#[derive(Clone, Debug)]
pub(super) struct Group {
    shape: GroupShape,
    calendar: Arc<Calendar>,
    good: Vec<Option<Good>>,
    /// The points that are no gauges.
    counting: Vec<usize>,
    /// What they counted up to the row being taken in; kept for its memory.
    steps: Vec<PointStep>,
    /// Per point, for those with a guard.
    totalisers: Vec<Option<Totaliser>>,
    lengths_ms: Vec<i64>,
    /// What a totaliser made of a reading; empty in between, kept for its memory.
    outcome: Outcome,
    windows: Vec<Chain>,
    demands: Demands,
    last_due_ms: Option<i64>,
    rows: Pending,
    /// Cells of a row of readings, and of a window.
    reading_width: usize,
    window_width: usize,
    calm: Calm,
    gaps: Vec<Gap>,
    /// With the point's index.
    audits: Vec<(usize, Audit)>,
    /// Closed and not yet cut, per entry of `lengths_ms`.
    closed: Vec<Vec<WindowRow>>,
}

impl Group {
    pub(super) fn new(
        shape: GroupShape,
        lengths_ms: &[i64],
        calendar: &Arc<Calendar>,
    ) -> Result<Group, Error> {
        let fitting = lengths_ms.iter().copied();
        let lengths_ms: Vec<i64> = fitting.filter(|&it| it >= shape.period_ms).collect();
        let windows = chains(
            &lengths_ms,
            shape.period_ms,
            &shape.kinds,
            &shape.sampled,
            calendar,
        )?;
        Ok(Group {
            good: vec![None; shape.kinds.len()],
            counting: (0..shape.kinds.len())
                .filter(|&point| shape.kinds.get(point) != Some(&PointKind::Gauge))
                .collect(),
            steps: Vec::new(),
            totalisers: shape.totalisers(),
            closed: vec![Vec::new(); lengths_ms.len()],
            lengths_ms,
            outcome: Outcome::default(),
            windows,
            demands: Demands::new(&shape, calendar),
            last_due_ms: None,
            rows: Pending::new(shape.kinds.len()),
            reading_width: READING_LEAD + 2 * shape.kinds.len(),
            window_width: window_width(&shape),
            calm: Calm::NEVER,
            gaps: Vec::new(),
            audits: Vec::new(),
            calendar: Arc::clone(calendar),
            shape,
        })
    }

    /// A group of the same shape that knows nothing.
    pub(super) fn fresh(&self) -> Result<Group, Error> {
        Group::new(self.shape.clone(), &self.lengths_ms, &self.calendar)
    }

    pub(super) fn last_due_ms(&self) -> Option<i64> {
        self.last_due_ms
    }

    pub(super) fn points(&self) -> usize {
        self.shape.kinds.len()
    }

    /// Check that slots come in order, and remember the last one.
    pub(super) fn follow(&mut self, first_due_ms: i64, last_due_ms: i64) -> Result<(), Error> {
        if self.last_due_ms.is_some_and(|last| first_due_ms <= last) {
            return Err(Error::InvalidArgument(
                "a slot must lie after the group's last one",
            ));
        }
        self.last_due_ms = Some(last_due_ms);
        Ok(())
    }

    /// Go on behind another slot: what is open ends as it is, what is pending stays.
    pub(super) fn restart(&mut self, last_due_ms: i64) -> Result<(), Error> {
        self.close_due(END_OF_TIME_MS);
        let fresh = self.fresh()?;
        self.good = fresh.good;
        self.totalisers = fresh.totalisers;
        self.windows = fresh.windows;
        self.calm = fresh.calm;
        self.demands.restart(fresh.demands);
        self.last_due_ms = Some(last_due_ms);
        Ok(())
    }

    /// Take in a row that was checked; return false when it came too late for a window.
    pub(super) fn push(&mut self, row: RowView<'_>, is_whole: bool) -> bool {
        if is_whole && self.push_calm(row) {
            return true;
        }
        self.fold();
        self.judge(|totaliser, out| totaliser.settle_due(row.at_ms, out));
        let steps = self.steps_to(row);
        let mut in_time = true;
        for windows in &mut self.windows {
            in_time &= windows.push(row, &self.good, &steps);
        }
        self.demands.push(row, &steps);
        self.steps = steps;
        let held_until_ms = self.hold_until_ms(row.at_ms);
        for (good, value) in self.good.iter_mut().zip(row.values) {
            match (value, good.as_mut()) {
                (Some(value), _) => {
                    *good = Some(Good {
                        at_ms: row.at_ms,
                        value: *value,
                        held_until_ms,
                    });
                }
                (None, Some(held)) => held.held_until_ms = held.held_until_ms.min(row.at_ms),
                (None, None) => {}
            }
        }
        self.rows.push(row, is_whole);
        self.calm_down((in_time && is_whole).then_some(row.at_ms));
        in_time
    }

    /// The values of the row that was taken in last.
    pub(super) fn last_values(&self) -> &[i64] {
        self.rows.last(1).last_values()
    }

    /// Until when a value read at a time stands for its point.
    fn hold_until_ms(&self, at_ms: i64) -> i64 {
        at_ms.saturating_add(self.shape.period_ms * HOLD_PERIODS)
    }

    /// What the totalisers counted up to a row that is being taken in.
    fn steps_to(&mut self, row: RowView<'_>) -> Vec<PointStep> {
        let mut steps = mem::take(&mut self.steps);
        steps.clear();
        let bridge_ms = self.shape.period_ms * BRIDGE_PERIODS;
        let at_ms = row.at_ms;
        for place in 0..self.counting.len() {
            let Some(&point) = self.counting.get(place) else {
                break;
            };
            let Some(Some(value)) = row.values.get(point).copied() else {
                continue;
            };
            if let Some(Some(totaliser)) = self.totalisers.get_mut(point) {
                totaliser.push(Shown { at_ms, value }, &mut self.outcome);
                let counted = self.outcome.steps.drain(..);
                steps.extend(counted.map(|step| (point, step)));
                let audits = self.outcome.audits.drain(..);
                self.audits.extend(audits.map(|audit| (point, audit)));
            } else if let Some(last) = self.good.get(point).copied().flatten() {
                let step = Step {
                    from_ms: last.at_ms,
                    from: last.value,
                    to_ms: at_ms,
                    to: value,
                    placed: at_ms.saturating_sub(last.at_ms) <= bridge_ms,
                };
                steps.push((point, step));
            }
        }
        steps
    }

    /// Another meter hangs there from here on.
    pub(super) fn replace(&mut self) {
        self.fold();
        self.judge(Totaliser::replace);
        self.calm_down(None);
    }

    /// Let every guarded totaliser decide something, and tell the windows.
    fn judge(&mut self, decide: impl Fn(&mut Totaliser, &mut Outcome)) {
        for &point in &self.counting {
            let Some(Some(totaliser)) = self.totalisers.get_mut(point) else {
                continue;
            };
            decide(totaliser, &mut self.outcome);
            let steps = self.outcome.steps.drain(..);
            let steps: Vec<PointStep> = steps.map(|step| (point, step)).collect();
            if !steps.is_empty() {
                self.windows.iter_mut().for_each(|it| it.settle(&steps));
                self.demands.settle(&steps);
            }
            let audits = self.outcome.audits.drain(..);
            self.audits.extend(audits.map(|audit| (point, audit)));
        }
    }

    pub(super) fn close_due(&mut self, now_ms: i64) {
        self.fold();
        let settled_ms = now_ms.saturating_sub(LATENESS_MS);
        self.judge(|totaliser, out| totaliser.settle_due(settled_ms, out));
        let in_doubt = |it: &Option<Totaliser>| it.as_ref().is_some_and(Totaliser::in_doubt);
        let doubted: Vec<bool> = self.totalisers.iter().map(in_doubt).collect();
        for windows in &mut self.windows {
            windows.close_due(now_ms, &self.good, &doubted, &mut self.closed);
        }
        self.demands.close_due(now_ms, &doubted);
        self.stay_calm();
    }

    pub(super) fn pending_cells(&self) -> usize {
        let closed: usize = self.closed.iter().map(Vec::len).sum();
        self.rows.len() * self.reading_width
            + self.gaps.len() * GAP_COLUMNS
            + self.audits.len() * AUDIT_COLUMNS
            + closed * self.window_width
            + self.demands.pending_cells()
    }

    /// Take out what fits; gaps, readings and audits before the windows over them.
    pub(super) fn cut(&mut self, room: &mut usize, counts: &mut Counts) -> Vec<Part> {
        let points = self.shape.kinds.len();
        let mut parts = Vec::new();
        let gaps = take_rows(&mut self.gaps, GAP_COLUMNS, room);
        if !gaps.is_empty() {
            let slots: u64 = gaps.iter().map(|gap| u64::from(gap.slots)).sum();
            counts.missed += slots * points as u64;
            parts.push(Part::Gaps(gaps));
        }
        let rows = rows_that_fit(self.rows.len(), self.reading_width, room);
        if rows > 0 {
            let taken = self.rows.take(rows);
            let values = taken.values() as u64;
            counts.values += values;
            counts.reasons += (rows * points) as u64 - values;
            parts.push(Part::Readings(taken));
        }
        let audits = take_rows(&mut self.audits, AUDIT_COLUMNS, room);
        if !audits.is_empty() {
            parts.push(Part::Audits(audits));
        }
        let width = self.window_width;
        let mut windows = Vec::new();
        for (&length_ms, closed) in self.lengths_ms.iter().zip(&mut self.closed) {
            let rows = take_rows(closed, width, room);
            if !rows.is_empty() {
                counts.windows += rows.len() as u64;
                windows.push((length_ms, rows));
            }
        }
        if !windows.is_empty() {
            parts.push(Part::Windows(windows));
        }
        let days = self.demands.cut(room);
        if !days.is_empty() {
            parts.push(Part::Demands(days));
        }
        parts
    }

    /// Declare slots that nobody read.
    pub(super) fn push_gap(&mut self, gap: Gap) -> Result<(), Error> {
        self.follow(gap.first_due_ms, gap.last_due_ms)?;
        self.gaps.push(gap);
        Ok(())
    }

    /// Append what is behind the pending rows to a snapshot.
    pub(super) fn save(&self, out: &mut Vec<u8>) {
        write_option(out, self.last_due_ms);
        for good in &self.good {
            write_option(out, good.map(|good| good.at_ms));
            if let Some(good) = good {
                write_i64(out, good.value);
                write_i64(out, good.held_until_ms);
            }
        }
        for totaliser in self.totalisers.iter().flatten() {
            totaliser.save(out);
        }
        for windows in &self.windows {
            windows.save(out);
        }
        self.demands.save(out);
    }

    /// Read what [`Group::save`] wrote for a group of the same shape into a fresh one.
    pub(super) fn load(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        self.last_due_ms = reader.option()?;
        for good in &mut self.good {
            *good = match reader.option()? {
                None => None,
                Some(at_ms) => Some(Good {
                    at_ms,
                    value: reader.i64()?,
                    held_until_ms: reader.i64()?,
                }),
            };
        }
        for totaliser in self.totalisers.iter_mut().flatten() {
            totaliser.load(reader)?;
        }
        for windows in &mut self.windows {
            windows.load(reader)?;
        }
        self.demands.load(reader)
    }
}

fn window_width(shape: &GroupShape) -> usize {
    let guarded = shape.kinds.iter().filter(|kind| kind.is_guarded());
    let uncertainties = match guarded.count() {
        0 => 0,
        guarded => UNCERTAINTY_LEAD + guarded,
    };
    let statistics = match shape.sampled.iter().filter(|&&it| it).count() {
        0 => 0,
        sampled => STATISTICS_LEAD + STATISTICS_COLUMNS * sampled,
    };
    1 + WINDOW_COLUMNS * shape.kinds.len() + uncertainties + statistics
}

pub(super) fn take_rows<T>(pending: &mut Vec<T>, width: usize, room: &mut usize) -> Vec<T> {
    let fits = rows_that_fit(pending.len(), width, room);
    pending.drain(..fits).collect()
}

/// How many rows of this width still fit the payload, which they are then taken from.
fn rows_that_fit(pending: usize, width: usize, room: &mut usize) -> usize {
    let fits = pending.min(*room / width).min(ROWS_MAX);
    *room -= fits * width;
    fits
}
