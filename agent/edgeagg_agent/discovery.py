"""Finds a SunSpec model in a meter, by questions to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from edgeagg.errors import RefusedError
from edgeagg_agent.bus import Answer
from edgeagg_agent.plan import Block
from edgeagg_agent.protocol import sunspec

_MARKER_REGISTERS = 2  # of "SunS", in front of the first model
_ILLEGAL_ADDRESS = 2


async def find_model(
    exchange: Callable[[Block], Awaitable[Answer]], wanted: Sequence[int]
) -> tuple[int, int]:
    """Return the registers of the marker and of the first model whose id is in `wanted`.

    Raises ProtocolError when the meter is not of SunSpec, RefusedError when it has none of these
    models, and what `exchange` raises; a refusal tells discovery that nothing stands there.
    """
    steps = sunspec.discover()
    content: bytes | None = None
    try:
        block = next(steps)
        while True:
            try:
                answer = await exchange(Block(block.function, block.start, block.count))
                content = answer.payload
            except RefusedError:
                content = None
            block = steps.send(content)
    except StopIteration as end:
        models: tuple[sunspec.Model, ...] = end.value
    for model in models:
        if model.id in wanted:
            return models[0].start - _MARKER_REGISTERS, model.start
    found = ", ".join(str(model.id) for model in models) or "none"
    raise RefusedError(
        f"no SunSpec model {' or '.join(map(str, wanted))} in this meter; it has: {found}",
        _ILLEGAL_ADDRESS,
    )
