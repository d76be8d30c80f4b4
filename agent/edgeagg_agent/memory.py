"""What was learned of the meters, kept over restarts in one file of the state directory.

Losing it costs time and nothing else, so a file that cannot be read is begun anew.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeagg_agent.learned import Learned
from edgeagg_agent.reader import MeterReader

FILE = "learned.json"


class Memory:
    """The file and what it holds, by the meters' names."""

    def __init__(self, directory: Path) -> None:
        """Read what a former run kept."""
        self._file = directory / FILE
        self._kept: dict[str, Any] = {}
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
        if isinstance(found, dict):
            self._kept = found

    def recall(self, meter: str, profile: str) -> Learned:
        """Return what is known of a meter under this profile."""
        kept = self._kept.get(meter)
        return Learned.from_json(kept if isinstance(kept, dict) else {}, profile)

    def keep(self, readers: Sequence[MeterReader]) -> None:
        """Write the file when something new was learned."""
        news = {reader.meter.name: reader.learned.to_json() for reader in readers}
        if news == self._kept:
            return
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(news), encoding="utf-8")
        new.replace(self._file)
        self._kept = news
