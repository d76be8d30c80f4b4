//! Demand: the mean power over a period, as meters keep it. Block demand is that of periods side by
//! side, sliding demand that of periods which begin anew after every slip; of both the highest of
//! each local day is kept, with the time its period ended.
//!
//! All sums are exact integers. Periods and slips are multiples in UTC; a period belongs to the day
//! in which it ends, one that ends at midnight to the day that ends then. What is not known is left
//! out, not guessed. There is a day where there is a row, good or not. This module knows no clock:
//! what has come too late, or needs no waiting for, is told to it.

mod energy;
mod power;

pub use energy::EnergyDemand;
pub use power::PowerDemand;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::calendar::{Bounds, Calendar, Span, DAY_MS, HOUR_MS};
use crate::error::Error;
use crate::rounding::divide_half_even;
use crate::totaliser::Step;
use crate::varint::{write_i128, write_i64, write_option, write_u64, Reader};
use crate::window::MEAN_SCALE;

/// Most slips in a period.
pub const SLIPS_MAX: i64 = 60;
/// Cells of a [`DayRow`].
pub const DAY_CELLS: usize = 7;
/// Most days that are open at once in a snapshot.
const DAYS_MAX: usize = 1 << 16;

/// What is told of a day: start, length in milliseconds, highest block demand, end of its period,
/// highest sliding demand, end of its period, block periods that were known.
pub type DayRow = [Option<i64>; DAY_CELLS];

/// Over how long demand is taken, and how far apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DemandShape {
    period_ms: i64,
    slip_ms: i64,
}

impl DemandShape {
    /// Demand over `period_ms`, taken every `slip_ms`. Equal times make block demand only.
    ///
    /// # Errors
    /// `InvalidArgument` unless the period divides an hour and the slip, at most 60 times, the
    /// period.
    pub fn new(period_ms: i64, slip_ms: i64) -> Result<DemandShape, Error> {
        let divides = period_ms > 0 && slip_ms > 0 && HOUR_MS % period_ms == 0;
        if !divides || period_ms % slip_ms != 0 || period_ms / slip_ms > SLIPS_MAX {
            return Err(Error::InvalidArgument(
                "a demand period divides an hour, a slip (at most 60 times) the period",
            ));
        }
        Ok(DemandShape { period_ms, slip_ms })
    }

    /// The time from one sliding period to the next.
    #[must_use]
    pub fn slip_ms(&self) -> i64 {
        self.slip_ms
    }

    /// Power from the energy of a period: exact, in the totaliser's resolution per hour.
    #[must_use]
    pub fn power_of_energy(&self, energy: i128) -> Option<i64> {
        i64::try_from(energy.checked_mul(i128::from(HOUR_MS / self.period_ms))?).ok()
    }

    /// Power from the integral of a gauge over a period, with three more decimals than the gauge.
    #[must_use]
    pub fn power_of_integral(&self, integral: i128) -> Option<i64> {
        let scaled = integral.checked_mul(MEAN_SCALE)?;
        i64::try_from(divide_half_even(scaled, i128::from(self.period_ms))).ok()
    }

    /// How many slips make a period.
    fn slips(&self) -> usize {
        (self.period_ms / self.slip_ms) as usize
    }

    fn slip_at_or_behind(&self, ms: i64) -> i64 {
        let beyond_ms = ms.rem_euclid(self.slip_ms);
        ms.saturating_add((self.slip_ms - beyond_ms) % self.slip_ms)
    }

    fn is_block(&self, end_ms: i64) -> bool {
        end_ms.rem_euclid(self.period_ms) == 0
    }
}

/// A period that ended and is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Its energy, or its integral in gauge × ms.
    pub amount: i128,
    /// Its end, UTC milliseconds.
    pub end_ms: i64,
}

/// The highest periods of a local day, as far as they have ended.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Day {
    bounds: Bounds,
    block: Option<Period>,
    sliding: Option<Period>,
    blocks: u64,
}

impl Day {
    fn new(bounds: Bounds) -> Day {
        Day {
            bounds,
            block: None,
            sliding: None,
            blocks: 0,
        }
    }

    /// Periods come in the order of their ends, so that of equals the first stays.
    fn take(&mut self, period: Period, is_block: bool) {
        let highest = |former: Option<Period>| {
            let former = former.filter(|it| it.amount >= period.amount);
            former.or(Some(period))
        };
        self.sliding = highest(self.sliding);
        if is_block {
            self.block = highest(self.block);
            self.blocks += 1;
        }
    }

    fn save(&self, out: &mut Vec<u8>) {
        write_i64(out, self.bounds.start_ms);
        write_u64(out, self.blocks);
        for highest in [self.block, self.sliding] {
            write_option(out, highest.map(|it| it.end_ms));
            write_i128(out, highest.map_or(0, |it| it.amount));
        }
    }

    fn load(reader: &mut Reader<'_>, calendar: &Calendar) -> Result<Day, Error> {
        let start_ms = reader.i64()?;
        let mut day = Day::new(calendar.bounds(start_ms, Span::Length(DAY_MS)));
        day.blocks = reader.u64()?;
        for highest in [&mut day.block, &mut day.sliding] {
            let end_ms = reader.option()?;
            let amount = reader.i128()?;
            *highest = end_ms.map(|end_ms| Period { amount, end_ms });
        }
        Ok(day)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Course {
    Energy(EnergyDemand),
    Power(PowerDemand),
}

/// The demand of one point, day by day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    shape: DemandShape,
    course: Course,
    calendar: Arc<Calendar>,
    /// Not closed yet, oldest first.
    days: VecDeque<Day>,
    /// No day begins before this time any more.
    sealed_ms: i64,
}

impl Demand {
    /// Demand from what a totaliser counted.
    #[must_use]
    pub fn of_totaliser(shape: DemandShape, calendar: Arc<Calendar>) -> Demand {
        let course = Course::Energy(EnergyDemand::new(shape));
        Demand::new(shape, course, calendar)
    }

    /// Demand from a power gauge whose value stands until the next reading, at most `hold_ms`.
    #[must_use]
    pub fn of_gauge(shape: DemandShape, hold_ms: i64, calendar: Arc<Calendar>) -> Demand {
        let course = Course::Power(PowerDemand::new(shape, hold_ms));
        Demand::new(shape, course, calendar)
    }

    fn new(shape: DemandShape, course: Course, calendar: Arc<Calendar>) -> Demand {
        Demand {
            shape,
            course,
            calendar,
            days: VecDeque::new(),
            sealed_ms: i64::MIN,
        }
    }

    /// Take in a row: the point's value in it, or none where there is a reason instead. What a
    /// totaliser counted up to it comes by [`Demand::settle`].
    pub fn push(&mut self, at_ms: i64, value: Option<i64>) {
        let is_in_a_day = |day: &Day| at_ms < day.bounds.end_ms;
        if at_ms >= self.sealed_ms && !self.days.back().is_some_and(is_in_a_day) {
            let bounds = self.calendar.bounds(at_ms, Span::Length(DAY_MS));
            self.days.push_back(Day::new(bounds));
        }
        if let Course::Power(power) = &mut self.course {
            let mut ended = Vec::new();
            power.push(at_ms, value, &mut ended);
            self.take(&ended);
        }
    }

    /// Take in what a totaliser counted. Each step goes on where the last one ended.
    pub fn settle(&mut self, step: &Step) {
        if let Course::Energy(energy) = &mut self.course {
            let mut ended = Vec::new();
            energy.push(step, &mut ended);
            self.take(&ended);
        }
    }

    fn take(&mut self, ended: &[Period]) {
        for period in ended {
            let is_within = |day: &&mut Day| day.bounds.start_ms < period.end_ms;
            let day = self.days.iter_mut().rev().find(is_within);
            if let Some(day) = day.filter(|day| period.end_ms <= day.bounds.end_ms) {
                day.take(*period, self.shape.is_block(period.end_ms));
            }
        }
    }

    /// Close the days that are complete at `settled_ms`, or ended `longest_ms` ago; return them,
    /// oldest first.
    pub fn close_due(&mut self, settled_ms: i64, longest_ms: i64) -> Vec<DayRow> {
        let mut rows = Vec::new();
        while let Some(end_ms) = self.days.front().map(|day| day.bounds.end_ms) {
            if end_ms > settled_ms {
                break;
            }
            let has_passed = match &mut self.course {
                Course::Energy(energy) => energy.has_passed(end_ms),
                Course::Power(power) => {
                    let mut ended = Vec::new();
                    power.pass(end_ms, &mut ended);
                    self.take(&ended);
                    true
                }
            };
            if !has_passed && settled_ms.saturating_sub(end_ms) < longest_ms {
                break;
            }
            rows.extend(self.days.pop_front().map(|day| self.row(&day)));
            self.sealed_ms = end_ms;
        }
        rows
    }

    fn row(&self, day: &Day) -> DayRow {
        let Bounds { start_ms, end_ms } = day.bounds;
        let demand = |highest: Option<Period>| {
            let Period { amount, end_ms } = highest?;
            let power = match self.course {
                Course::Energy(_) => self.shape.power_of_energy(amount),
                Course::Power(_) => self.shape.power_of_integral(amount),
            };
            Some((power?, end_ms))
        };
        let (block, block_end_ms) = demand(day.block).unzip();
        let (sliding, sliding_end_ms) = demand(day.sliding).unzip();
        [
            Some(start_ms),
            Some(end_ms.saturating_sub(start_ms)),
            block,
            block_end_ms,
            sliding,
            sliding_end_ms,
            i64::try_from(day.blocks).ok(),
        ]
    }

    /// Append the state to a snapshot.
    pub fn save(&self, out: &mut Vec<u8>) {
        write_i64(out, self.sealed_ms);
        write_u64(out, self.days.len() as u64);
        for day in &self.days {
            day.save(out);
        }
        match &self.course {
            Course::Energy(energy) => energy.save(out),
            Course::Power(power) => power.save(out),
        }
    }

    /// Read the state that [`Demand::save`] wrote for the same shape and calendar.
    ///
    /// # Errors
    /// `Truncated`, `Corrupt` or `TooLarge`.
    pub fn load(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        self.sealed_ms = reader.i64()?;
        self.days = (0..reader.count("open days", DAYS_MAX)?)
            .map(|_| Day::load(reader, &self.calendar))
            .collect::<Result<_, Error>>()?;
        match &mut self.course {
            Course::Energy(energy) => energy.load(reader),
            Course::Power(power) => power.load(reader),
        }
    }
}
