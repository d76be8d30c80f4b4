"""Looks at what a kill left on either side: what was journaled, committed and receipted by then.

Everything is read beside the processes, without their locks, and nothing is written. What is found
becomes an obligation: a row that was in the journal when the agent died must reach the platform as
it stood there, and no receipt may be known for what the platform has not committed.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from edgeagg._core import CODEC_DELTA, read_segment
from edgeagg.content import decode
from edgeagg.model import Catalogue
from edgeagg_agent.cursor import Cursor
from edgeagg_agent.judging import make_aggregator
from edgeagg_agent.rowlog import ROW
from hil_tests import stored

Slot = tuple[str, int, int]
"""Meter, period in ms, due time in UTC ms."""
Row = tuple[int, tuple[int | None, ...]]
"""When it was read, in UTC ms, and the mantissas of its points."""


class Witness:
    """What was seen of one site so far."""

    def __init__(self, state: Path, database: Path, catalogue: Catalogue) -> None:
        """Look at the agent's `state` directory and the platform's `database`."""
        self.rows: dict[Slot, Row] = {}
        """All that was ever found in the readings' journal behind a kill of the agent."""
        self._state, self._database, self._catalogue = state, database, catalogue
        self._seen = 0

    def look_at_journal(self) -> None:
        """Remember the rows that are journaled; the agent must be dead."""
        aggregator = make_aggregator(self._catalogue)
        for file in sorted(self._state.glob("readings-*/*.journal")):
            for number, kind, payload in read_segment(file):
                if kind == ROW and number > self._seen:
                    aggregator.replay(payload)
                self._seen = max(self._seen, number)
        while (part := aggregator.cut(0)) is not None:
            # the fast codec: what is encoded here is decoded at once
            content = decode(*part.encode(CODEC_DELTA), self._catalogue)
            for row in content.readings:
                slot = row.group.meter, row.group.period_ms, row.due_ms
                self.rows[slot] = row.at_ms, tuple(row.mantissas)

    def ahead(self) -> str:
        """Say what the agent has a receipt for and the platform has not committed, if anything.

        The receiver must be dead: what it commits between the two looks would be missing.
        """
        receipted, committed = self.receipted(), self.committed()
        missing = set(range(1, receipted + 1)) - committed
        if not missing:
            return ""
        return f"the agent has a receipt for {receipted}, the platform has no {min(missing)}"

    def receipted(self) -> int:
        """Return the last sequence that the agent holds a receipt for."""
        return max((Cursor(path).through for path in self._state.glob("cursor-*")), default=0)

    def committed(self) -> set[int]:
        """Return the sequences that the platform has committed."""
        return set(self._ask("SELECT sequence FROM batches"))

    def _ask(self, statement: str) -> list[int]:
        """Return a column of the platform's database; nothing while it has no tables."""
        if not self._database.exists():
            return []
        try:
            return [number for (number,) in stored.ask_sqlite(self._database, statement)]
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            return []
