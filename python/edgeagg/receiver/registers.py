"""What an energy register showed at an instant between two readings, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from edgeagg.receiver.judgements import StoredAudit, StoredUncertainty
from edgeagg.receiver.store import Register


@dataclass(frozen=True, slots=True)
class Shown:
    """A totaliser at one instant, in kWh, interpolated between the readings around it.

    A totaliser only rises, so the truth lies between these two readings: `uncertainty_kwh` is how
    far it can be from `shown_kwh` to the worse side, the register's own step left out.
    """

    at_ms: int
    shown_kwh: Fraction
    before: Register
    after: Register

    @property
    def uncertainty_kwh(self) -> Fraction:
        """Return the largest error of the interpolation."""
        rise = self.after.shown - self.shown_kwh
        return max(self.shown_kwh - self.before.shown, rise, Fraction(0))

    @staticmethod
    def between(before: Register, after: Register, at_ms: int) -> Shown:
        """Interpolate between the readings on both sides of the instant."""
        span_ms = after.at_ms - before.at_ms
        share = Fraction(at_ms - before.at_ms, span_ms) if span_ms else Fraction(0)
        rise = after.shown - before.shown
        return Shown(at_ms, before.shown + rise * share, before, after)


@dataclass(frozen=True, slots=True)
class Beside:
    """What the gateway itself said of that instant: of windows that meet there, and of bridges."""

    uncertainties: Sequence[StoredUncertainty]
    audits: Sequence[StoredAudit]
