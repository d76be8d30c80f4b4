//! The demands of one group: which points have one, and their days, from rows on.

use std::sync::Arc;

use super::group::take_rows;
use super::GroupShape;
use crate::calendar::Calendar;
use crate::demand::{DayRow, Demand};
use crate::error::Error;
use crate::reading::{Block, RowView};
use crate::table::DEMAND_COLUMNS;
use crate::totaliser::{doubt_ms, Step, Totaliser};
use crate::varint::Reader;
use crate::window::{Good, PointKind, PointStep, BRIDGE_PERIODS, HOLD_PERIODS, LATENESS_MS};

/// The demands of a group; most groups have none.
#[derive(Clone, Debug)]
pub(super) struct Demands {
    bridge_ms: i64,
    /// With the point's index.
    points: Vec<(usize, Demand)>,
    /// Closed and not yet cut, with the point's index.
    closed: Vec<(usize, DayRow)>,
}

impl Demands {
    pub(super) fn new(shape: &GroupShape, calendar: &Arc<Calendar>) -> Demands {
        let hold_ms = shape.period_ms * HOLD_PERIODS;
        let demand = |(point, demand): &(usize, _)| {
            let calendar = Arc::clone(calendar);
            let demand = match shape.kinds.get(*point) {
                Some(PointKind::Gauge) | None => Demand::of_gauge(*demand, hold_ms, calendar),
                Some(_) => Demand::of_totaliser(*demand, calendar),
            };
            (*point, demand)
        };
        Demands {
            bridge_ms: shape.period_ms * BRIDGE_PERIODS,
            points: shape.demands.iter().map(demand).collect(),
            closed: Vec::new(),
        }
    }

    /// Go on as `fresh`, with what is closed already.
    pub(super) fn restart(&mut self, fresh: Demands) {
        self.points = fresh.points;
    }

    /// Take in a row, and what the totalisers counted up to it.
    pub(super) fn push(&mut self, row: RowView<'_>, steps: &[PointStep]) {
        for (point, demand) in &mut self.points {
            demand.push(row.at_ms, row.values.get(*point).copied().flatten());
        }
        self.settle(steps);
    }

    /// The same for whole rows that only add, behind the readings in `before`, each within the time
    /// that is interpolated over; guarded totalisers stand where they stood then.
    pub(super) fn push_run(
        &mut self,
        rows: Block<'_>,
        before: &[Option<Good>],
        totalisers: &[Option<Totaliser>],
    ) {
        for (point, demand) in &mut self.points {
            let totaliser = totalisers.get(*point).and_then(Option::as_ref);
            let total = |value| totaliser.map_or(value, |it| it.total_at(value));
            let Some(mut good) = before.get(*point).copied().flatten() else {
                continue;
            };
            for (at_ms, value) in rows.read_at().zip(rows.column(*point)) {
                demand.push(at_ms, Some(value));
                demand.settle(&Step {
                    from_ms: good.at_ms,
                    from: total(good.value),
                    to_ms: at_ms,
                    to: total(value),
                    placed: true,
                });
                (good.at_ms, good.value) = (at_ms, value);
            }
        }
    }

    pub(super) fn settle(&mut self, steps: &[PointStep]) {
        for (point, demand) in &mut self.points {
            for (_, step) in steps.iter().filter(|step| step.0 == *point) {
                demand.settle(step);
            }
        }
    }

    /// Close the days that are over: those of a point that is `doubted` wait for the verdict.
    pub(super) fn close_due(&mut self, now_ms: i64, doubted: &[bool]) {
        let settled_ms = now_ms.saturating_sub(LATENESS_MS);
        for (point, demand) in &mut self.points {
            let longest_ms = match doubted.get(*point) {
                // a doubt that can still settle the last period began at most a bridge behind it
                Some(true) => self.bridge_ms + doubt_ms(self.bridge_ms),
                _ => self.bridge_ms,
            };
            let days = demand.close_due(settled_ms, longest_ms);
            self.closed
                .extend(days.into_iter().map(|day| (*point, day)));
        }
    }

    pub(super) fn pending_cells(&self) -> usize {
        self.closed.len() * DEMAND_COLUMNS
    }

    /// Take out what fits, with the point's index.
    pub(super) fn cut(&mut self, room: &mut usize) -> Vec<(usize, DayRow)> {
        take_rows(&mut self.closed, DEMAND_COLUMNS, room)
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        for (_, demand) in &self.points {
            demand.save(out);
        }
    }

    pub(super) fn load(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        for (_, demand) in &mut self.points {
            demand.load(reader)?;
        }
        Ok(())
    }
}
