"""The figures of the delivery, from the agent's own sender on a modelled line."""

from __future__ import annotations

import pytest

from edgeagg_agent.pace import Pace
from edgeagg_agent.sender import Sender
from edgeagg_agent.uplink import Backoff
from hil_tests.virtual.delivering import batch_bytes, drain, endure, gather


def test_a_week_of_backlog_is_drained_within_the_hour_and_new_batches_hardly_notice() -> None:
    drained = drain(batch_bytes())
    assert drained.took_s <= 3_600, drained
    assert drained.live_p95_ms <= 2 * drained.alone_p95_ms, drained


@pytest.mark.long
def test_large_batches_make_new_ones_wait_no_longer_either() -> None:
    drained = drain(12_000)
    assert drained.took_s <= 3_600, drained
    assert drained.live_p95_ms <= 2 * drained.alone_p95_ms, drained


@pytest.mark.long
def test_without_the_window_that_heeds_delays_new_batches_stand_in_the_queue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Pace, "backlog_limit", property(lambda pace: pace.limit - 1))
    drained = drain(2_000)
    assert drained.live_p95_ms > 4 * drained.alone_p95_ms, drained


@pytest.mark.parametrize("latency_s", [1.0, 2.0])
def test_a_day_of_loss_and_latency_loses_nothing_and_a_new_batch_arrives_within_a_minute(
    latency_s: float,
) -> None:
    endured = endure(latency_s=latency_s)
    assert endured.missing == 0, endured
    assert endured.cut >= 1_439
    assert endured.p99_s <= 60, endured


def test_time_outs_without_a_limit_make_a_new_batch_late() -> None:
    assert endure(timeout_max_s=120).p99_s > 60


def test_a_sender_that_never_sends_again_loses_what_was_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Sender, "reconnected", lambda self: setattr(self, "is_greeted", False))
    monkeypatch.setattr(Sender, "_drop_late", lambda self, now_ms: None)
    assert endure().missing > 0


@pytest.mark.long
def test_a_thousand_gateways_that_lost_a_broker_come_back_one_after_the_other() -> None:
    herd = gather()
    assert 0 < herd.whole_s <= 60, herd
    assert herd.connections_peak <= 200, herd


@pytest.mark.long
def test_gateways_without_jitter_come_back_in_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "pause_s", lambda self: 2.5)
    assert gather().connections_peak > 900
