"""The event loop of a running agent: closed descriptors do not end it."""

from __future__ import annotations

import asyncio
import os

from edgeagg_agent.bus.port import line_loop


async def closes_what_is_watched() -> list[bytes]:
    """Close a descriptor behind the loop's back, then read another."""
    loop = asyncio.get_running_loop()
    found: list[bytes] = []
    closed, other = os.pipe(), os.pipe()
    loop.add_reader(closed[0], lambda: found.append(b"closed"))
    loop.add_writer(closed[1], lambda: found.append(b"closed"))
    for end in closed:
        os.close(end)
    await asyncio.sleep(0.001)
    assert not loop.remove_reader(closed[0]), "it is forgotten"
    loop.add_reader(other[0], lambda: found.append(os.read(other[0], 9)))
    os.write(other[1], b"news")
    await asyncio.sleep(0.001)
    loop.remove_reader(other[0])
    for end in other:
        os.close(end)
    return found


def test_a_descriptor_that_somebody_closed_does_not_end_the_loop() -> None:
    with asyncio.Runner(loop_factory=line_loop) as runner:
        assert runner.run(closes_what_is_watched()) == [b"news"]
