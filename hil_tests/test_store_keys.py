"""Both databases keep the gateways' keys alike."""

from __future__ import annotations

import dataclasses

from edgeagg.batch import Batch, BatchKind
from edgeagg.receiver.keys import Change, GatewayKey, State
from edgeagg.receiver.store import Store
from hil_tests.deliveries import (
    EPOCH,
    GATEWAY,
    OTHER_GATEWAY,
    deliver,
)

FIRST, SECOND = bytes([1]) * 32, bytes([2]) * 32


def key(public: bytes, state: State, *, until: int = 0, ended_ms: int = 0) -> GatewayKey:
    return GatewayKey(GATEWAY, public, state, (EPOCH if until else 0, until), 1_000, ended_ms)


async def test_a_key_is_entered_once(store: Store) -> None:
    assert await store.add_key(GATEWAY, FIRST, 1_000)
    assert not await store.add_key(GATEWAY, FIRST, 2_000)
    assert await store.keys(GATEWAY) == [key(FIRST, State.ACTIVE)]
    assert await store.keys(OTHER_GATEWAY) == []
    assert await store.keys() == [key(FIRST, State.ACTIVE)]


async def test_a_revoked_key_stays_revoked(store: Store) -> None:
    await store.add_key(GATEWAY, FIRST, 1_000)
    assert await store.revoke_key(GATEWAY, FIRST, 5_000)
    assert not await store.revoke_key(GATEWAY, FIRST, 6_000)
    assert not await store.add_key(GATEWAY, FIRST, 7_000)
    assert await store.keys(GATEWAY) == [key(FIRST, State.REVOKED, ended_ms=5_000)]
    assert not await store.revoke_key(GATEWAY, SECOND, 5_000)


async def test_a_key_follows_another_with_the_batch_that_says_so(store: Store) -> None:
    await store.add_key(GATEWAY, FIRST, 1_000)
    batch = Batch(GATEWAY, EPOCH, 3, BatchKind.KEY, bytes(16), EPOCH, 0, bytes(96))
    delivery = dataclasses.replace(deliver(batch), change=Change(FIRST, SECOND), received_ms=1_000)
    await store.commit([delivery])
    await store.commit([dataclasses.replace(delivery, received_ms=9_000)])
    retired = key(FIRST, State.RETIRED, until=3, ended_ms=1_000)
    assert await store.keys(GATEWAY) == [retired, key(SECOND, State.ACTIVE)]
