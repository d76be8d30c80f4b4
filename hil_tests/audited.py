"""The platform's own audit of what a chain delivered."""

from __future__ import annotations

import asyncio

from edgeagg.receiver.audit import Audit, audit
from edgeagg.receiver.store import open_store
from hil_tests.chain import GATEWAY


def audited(store: str) -> Audit:
    """Return what the audit finds in the database at `store`; nobody needs to be stopped for it."""

    async def look() -> Audit:
        opened = await open_store(store)
        try:
            return await audit(opened, GATEWAY)
        finally:
            await opened.close()

    return asyncio.run(look())
