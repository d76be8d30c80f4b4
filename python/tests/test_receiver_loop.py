"""The receiver's event loop: what it says of sockets that the MQTT client has closed."""

from __future__ import annotations

import asyncio
import logging
import os

import pytest

from edgeagg.receiver.mqtt import forgive_closed_sockets


async def test_a_socket_that_is_closed_before_it_is_watched_is_not_worth_a_trace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = asyncio.get_running_loop()
    forgive_closed_sockets(loop)
    ours, theirs = os.pipe()
    loop.call_soon(loop.add_writer, theirs, print)
    os.close(theirs)
    await asyncio.sleep(0)
    os.close(ours)
    assert caplog.records == []
    loop.call_soon(int, "no number")
    await asyncio.sleep(0)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
