//! What a totaliser's readings become: steps of energy, and records of what is no plain counting.

use crate::rounding::divide_half_even;

/// A totaliser's reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// When it was taken.
    pub at_ms: i64,
    /// Its mantissa.
    pub value: i64,
}

/// What a totaliser counted between two instants, as a running total. That of a guarded one never
/// falls; without a guard it is the register itself, which may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The earlier instant.
    pub from_ms: i64,
    /// The total then.
    pub from: i64,
    /// The later instant.
    pub to_ms: i64,
    /// The total then.
    pub to: i64,
    /// Whether the total is interpolated between the two.
    pub placed: bool,
}

/// A running total at an instant that no reading was taken at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// The total, interpolated.
    pub total: i64,
    /// How far the truth can be from it. What an [`Audit`] leaves open comes on top.
    pub uncertainty: i64,
}

impl Step {
    /// The total at `ms`, if that lies between the two instants or at one of them. A counter only
    /// rises, so the truth is between the readings on either side. Two readings of one moment (a
    /// clock set back) have nothing between them.
    #[must_use]
    pub fn bound_at(&self, ms: i64) -> Option<Bound> {
        let outside = ms < self.from_ms || ms > self.to_ms;
        if !self.placed || outside || self.from_ms == self.to_ms {
            return None;
        }
        let rise = i128::from(self.to) - i128::from(self.from);
        let share = rise * i128::from(ms - self.from_ms);
        let part = divide_half_even(share, i128::from(self.to_ms - self.from_ms));
        let is_read = ms == self.from_ms || ms == self.to_ms;
        let uncertainty = if is_read { 0 } else { part.max(rise - part) };
        Some(Bound {
            total: i64::try_from(i128::from(self.from) + part).ok()?,
            uncertainty: i64::try_from(uncertainty).unwrap_or(i64::MAX),
        })
    }
}

/// Why a totaliser's line was left. The numbers are part of the batch format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditKind {
    /// It passed its last number and went on from 0; the energy across is known.
    Rollover = 1,
    /// It went on from a lower number.
    Reset = 2,
    /// Another meter was found in its place.
    Replaced = 3,
    /// It went on from a number higher than it can have counted.
    Jump = 4,
    /// It stood still and caught up; the energy is known, when it was counted is not.
    Freeze = 5,
    /// It showed less for a while; the energy across is known.
    Dip = 6,
    /// It showed what it cannot have counted for a while; the energy across is known.
    Glitch = 7,
    /// Nobody read sense from it for too long to interpolate; the energy across is known, but not
    /// when it was counted.
    Gap = 8,
}

/// The record of a place where a totaliser's line was left, and how it was bridged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audit {
    /// What it was.
    pub kind: AuditKind,
    /// The last reading before it.
    pub closing: Shown,
    /// The reading that counting goes on from.
    pub opening: Shown,
    /// The energy that was counted between the two.
    pub energy: i64,
    /// Readings between the two that were set aside.
    pub doubted: u32,
    /// The one of them furthest from `closing`.
    pub extreme: Option<i64>,
}

/// What came of a reading, or of time passing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What was counted, oldest first.
    pub steps: Vec<Step>,
    /// What is to be explained.
    pub audits: Vec<Audit>,
}
