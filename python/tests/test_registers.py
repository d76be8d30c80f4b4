"""A register between two readings: interpolated, with the most it can be wrong."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagg.cli import main
from edgeagg.receiver.registers import Shown
from edgeagg.receiver.store import Register
from python.tests.platform_site import MINUTE_MS, START_MS, fill, loads


def test_a_register_is_interpolated_by_time() -> None:
    shown = Shown.between(Register(1_000, Fraction(10)), Register(5_000, Fraction(14)), 2_000)
    assert shown.shown_kwh == 11
    assert shown.uncertainty_kwh == 3


def test_a_reading_at_the_moment_itself_is_certain() -> None:
    reading = Register(1_000, Fraction(10))
    shown = Shown.between(reading, reading, 1_000)
    assert (shown.shown_kwh, shown.uncertainty_kwh) == (10, 0)


@given(st.integers(0, 900), st.integers(1, 900), st.integers(0, 10**6), st.fractions(0, 1))
def test_the_truth_is_never_further_away_than_the_uncertainty(
    first_s: int, span_s: int, rise: int, course: Fraction
) -> None:
    before = Register(first_s * 1_000, Fraction(7))
    after = Register((first_s + span_s) * 1_000, Fraction(7) + rise)
    at_ms = before.at_ms + span_s * 500
    shown = Shown.between(before, after, at_ms)
    truth = before.shown + course * rise  # a totaliser only rises
    assert abs(shown.shown_kwh - truth) <= shown.uncertainty_kwh


@pytest.fixture
async def plant(tmp_path: Path) -> str:
    await fill(tmp_path / "db", loads(30))
    return f"sqlite:///{tmp_path / 'db'}"


def test_the_command_shows_the_register_and_the_readings_around_it(
    plant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = loads(30)["hall"]
    at = "2026-07-01T00:10:30"
    assert main(["register", "--store", plant, "--meter", "hall", "--at", at, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    half = Fraction(taken[10], 2_000)
    assert found["point"] == "active_energy_import"
    assert found["at_ms"] == START_MS + 10 * MINUTE_MS + 30_000
    assert float(found["uncertainty_kwh"]) == pytest.approx(float(half))
    assert found["read_after_ms"] - found["read_before_ms"] == MINUTE_MS
    assert main(["register", "--store", plant, "--meter", "hall", "--at", at]) == 0
    text = capsys.readouterr().out
    assert "active_energy_import" in text
    assert "kWh read 30.0 s before" in text


def test_a_moment_without_readings_around_it_is_exit_status_1(
    plant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["register", "--store", plant, "--meter", "hall", "--at", "2030-01-01"]) == 1
    assert "no good readings around 2030-01-01" in capsys.readouterr().err
