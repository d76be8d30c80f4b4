//! Demand from a totaliser: a period's energy is the difference of its totals at the two ends, each
//! interpolated between the readings around it like the ends of a window.

use std::collections::VecDeque;

use super::{DemandShape, Period};
use crate::error::Error;
use crate::totaliser::Step;
use crate::varint::{write_option, write_u64, Reader};

/// The end of a slip: the total there, and whether it fell within the slip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    total: Option<i64>,
    fell: bool,
}

/// The periods of a totaliser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnergyDemand {
    shape: DemandShape,
    /// The next end of a slip; none before the first step.
    next_ms: Option<i64>,
    /// Ends of the last slips, at most one more than make a period.
    marks: VecDeque<Mark>,
    /// Whether the total fell within the slip that ends next, and within the one behind it.
    fell: [bool; 2],
}

impl EnergyDemand {
    /// The periods of this shape.
    #[must_use]
    pub fn new(shape: DemandShape) -> EnergyDemand {
        EnergyDemand {
            shape,
            next_ms: None,
            marks: VecDeque::new(),
            fell: [false; 2],
        }
    }

    /// Take in a step, which goes on where the last one ended; append the periods that ended
    /// within it and are known.
    pub fn push(&mut self, step: &Step, ended: &mut Vec<Period>) {
        let from_ms = step.from_ms;
        let first_ms = || self.shape.slip_at_or_behind(from_ms);
        let mut next_ms = self.next_ms.unwrap_or_else(first_ms);
        let fell = step.to < step.from;
        let is_placed = step.placed && !fell;
        let behind_ms = self.shape.slip_at_or_behind(step.to_ms);
        if !is_placed && behind_ms.saturating_sub(next_ms) > self.shape.period_ms {
            // nothing between is known, so no period that began before is
            self.marks.clear();
            self.fell = [false; 2];
            next_ms = behind_ms;
        }
        // an end at which only a leap arrives has its total from the next step
        let is_reached = |next_ms| {
            next_ms < step.to_ms || (next_ms == step.to_ms && is_placed && from_ms < step.to_ms)
        };
        while is_reached(next_ms) {
            let bound = step.bound_at(next_ms).filter(|_| is_placed);
            self.end(next_ms, bound.map(|bound| bound.total), ended);
            next_ms = next_ms.saturating_add(self.shape.slip_ms);
        }
        if fell {
            // the rule of windows: one that begins with the lower reading is not trusted either
            self.fell = [true, self.fell[1] || next_ms <= step.to_ms];
        }
        self.next_ms = Some(next_ms);
    }

    fn end(&mut self, end_ms: i64, total: Option<i64>, ended: &mut Vec<Period>) {
        let [fell, fell_behind] = self.fell;
        self.fell = [fell_behind, false];
        self.marks.push_back(Mark { total, fell });
        if self.marks.len() > self.shape.slips() + 1 {
            self.marks.pop_front();
        }
        let is_whole = self.marks.len() == self.shape.slips() + 1;
        let is_trusted = !self.marks.iter().skip(1).any(|mark| mark.fell);
        let opening = self.marks.front().and_then(|mark| mark.total);
        if let (Some(opening), Some(closing), true) = (opening, total, is_whole && is_trusted) {
            let amount = i128::from(closing) - i128::from(opening);
            ended.push(Period { amount, end_ms });
        }
    }

    /// Whether every period that ends at `end_ms` or before has ended.
    pub(super) fn has_passed(&self, end_ms: i64) -> bool {
        self.next_ms.is_some_and(|next_ms| next_ms > end_ms)
    }

    /// Append the state to a snapshot.
    pub fn save(&self, out: &mut Vec<u8>) {
        write_option(out, self.next_ms);
        out.extend(self.fell.map(u8::from));
        write_u64(out, self.marks.len() as u64);
        for mark in &self.marks {
            write_option(out, mark.total);
            out.push(u8::from(mark.fell));
        }
    }

    /// Read the state that [`EnergyDemand::save`] wrote for the same shape.
    ///
    /// # Errors
    /// `Truncated`, `Corrupt` or `TooLarge`.
    pub fn load(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        self.next_ms = reader.option()?;
        for fell in &mut self.fell {
            *fell = reader.byte()? != 0;
        }
        self.marks = (0..reader.count("slips", self.shape.slips() + 1)?)
            .map(|_| {
                let total = reader.option()?;
                let fell = reader.byte()? != 0;
                Ok(Mark { total, fell })
            })
            .collect::<Result<_, Error>>()?;
        Ok(())
    }
}
