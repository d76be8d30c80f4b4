//! Demand from a power gauge: the integral of the held value over a period, which is known where
//! the period is covered without a hole.

use std::collections::VecDeque;

use super::{DemandShape, Period};
use crate::error::Error;
use crate::varint::{write_i128, write_i64, write_option, write_u64, Reader};

/// Time ends here, so that there is always a slip behind it.
const TIME_MAX_MS: i64 = 1 << 62;

/// The periods of a power gauge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PowerDemand {
    shape: DemandShape,
    hold_ms: i64,
    /// The next end of a slip; none before the first reading.
    next_ms: Option<i64>,
    /// The value that stands, and until when.
    held: Option<(i64, i64)>,
    clock_ms: i64,
    /// Integrals of the last slips; none where a slip was not covered.
    areas: VecDeque<Option<i128>>,
    area: i128,
    covered_ms: i64,
}

impl PowerDemand {
    /// The periods of this shape; a value stands until the next reading, at most `hold_ms`.
    #[must_use]
    pub fn new(shape: DemandShape, hold_ms: i64) -> PowerDemand {
        PowerDemand {
            shape,
            hold_ms,
            next_ms: None,
            held: None,
            clock_ms: i64::MIN,
            areas: VecDeque::new(),
            area: 0,
            covered_ms: 0,
        }
    }

    /// Take in the next reading; one that failed has no value and ends the one before. Append the
    /// periods that ended and are known.
    pub fn push(&mut self, at_ms: i64, value: Option<i64>, ended: &mut Vec<Period>) {
        self.pass(at_ms, ended);
        self.held = value.map(|value| (value, at_ms.saturating_add(self.hold_ms)));
    }

    /// Let time pass without a reading; append the periods that ended and are known.
    pub fn pass(&mut self, to_ms: i64, ended: &mut Vec<Period>) {
        let to_ms = to_ms.min(TIME_MAX_MS);
        if to_ms <= self.clock_ms {
            return;
        }
        let behind_ms = self.shape.slip_at_or_behind(to_ms);
        let mut next_ms = self.next_ms.unwrap_or(behind_ms);
        while next_ms <= to_ms {
            self.weigh(next_ms);
            self.end(next_ms, ended);
            let is_held = self.held.is_some_and(|held| held.1 > next_ms);
            next_ms = next_ms.saturating_add(self.shape.slip_ms);
            if !is_held && next_ms < behind_ms {
                // nothing stands any more, so no period up to there is whole
                self.areas.clear();
                next_ms = behind_ms;
            }
        }
        self.weigh(to_ms);
        self.next_ms = Some(next_ms);
    }

    fn end(&mut self, end_ms: i64, ended: &mut Vec<Period>) {
        let is_whole = self.covered_ms == self.shape.slip_ms;
        self.areas.push_back(is_whole.then_some(self.area));
        (self.area, self.covered_ms) = (0, 0);
        if self.areas.len() > self.shape.slips() {
            self.areas.pop_front();
        }
        let sum = |sum: i128, area: &Option<i128>| sum.checked_add((*area)?);
        if self.areas.len() == self.shape.slips() {
            let amount = self.areas.iter().try_fold(0, sum);
            ended.extend(amount.map(|amount| Period { amount, end_ms }));
        }
    }

    fn weigh(&mut self, to_ms: i64) {
        if let Some((value, until_ms)) = self.held {
            let span_ms = to_ms.min(until_ms).saturating_sub(self.clock_ms);
            if span_ms > 0 {
                let area = i128::from(value) * i128::from(span_ms);
                self.area = self.area.saturating_add(area);
                self.covered_ms = self.covered_ms.saturating_add(span_ms);
            }
        }
        self.clock_ms = to_ms;
    }

    /// Append the state to a snapshot.
    pub fn save(&self, out: &mut Vec<u8>) {
        write_option(out, self.next_ms);
        write_option(out, self.held.map(|held| held.1));
        write_i64(out, self.held.map_or(0, |held| held.0));
        write_i64(out, self.clock_ms);
        write_i128(out, self.area);
        write_i64(out, self.covered_ms);
        write_u64(out, self.areas.len() as u64);
        for area in &self.areas {
            out.push(u8::from(area.is_some()));
            write_i128(out, area.unwrap_or(0));
        }
    }

    /// Read the state that [`PowerDemand::save`] wrote for the same shape.
    ///
    /// # Errors
    /// `Truncated`, `Corrupt` or `TooLarge`.
    pub fn load(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        self.next_ms = reader.option()?;
        let (until_ms, value) = (reader.option()?, reader.i64()?);
        self.held = until_ms.map(|until_ms| (value, until_ms));
        self.clock_ms = reader.i64()?;
        self.area = reader.i128()?;
        self.covered_ms = reader.i64()?;
        self.areas = (0..reader.count("slips", self.shape.slips())?)
            .map(|_| {
                let is_whole = reader.byte()? != 0;
                let area = reader.i128()?;
                Ok(is_whole.then_some(area))
            })
            .collect::<Result<_, Error>>()?;
        Ok(())
    }
}
