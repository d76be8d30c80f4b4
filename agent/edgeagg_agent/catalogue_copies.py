"""Where a catalogue still stands whose own file is damaged: in batches and in day files.

Without it no row that waits in the readings' journal can be understood. Reads files only, and looks
through all of them where it must: that is for damage, not for every day.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from edgeagg._core import read_segment
from edgeagg.batch import Batch, BatchKind
from edgeagg.errors import FormatError
from edgeagg.model import Catalogue
from edgeagg_agent import days, epochs, segments
from edgeagg_agent.catalogues import Catalogues
from edgeagg_agent.day_file import DayFile


def find(directory: Path, schema: bytes) -> Catalogue | None:
    """Return the catalogue with this hash, from its file or a copy; None when none is left.

    Blocks, long where the file is damaged.
    """
    known = Catalogues(directory).find(schema)
    if known is not None:
        return known
    copies = (found for copies in (_announced, _in_days) for found in copies(directory, schema))
    return next((found for found in copies if found.hash == schema), None)


def _announced(directory: Path, schema: bytes) -> Iterator[Catalogue]:
    """Yield what batches of all epochs announce under this hash, the newest epoch first."""
    for epoch in reversed(epochs.numbers(directory)):
        for _, path in reversed(segments.numbered(epochs.batches(directory, epoch))):
            with contextlib.suppress(OSError):
                for _, _, message in read_segment(path):
                    with contextlib.suppress(FormatError):
                        batch = Batch.from_bytes(message)
                        if batch.kind is BatchKind.CATALOGUE and batch.schema == schema:
                            yield Catalogue.from_bytes(batch.payload)


def _in_days(directory: Path, schema: bytes) -> Iterator[Catalogue]:
    """Yield what day files hold under this hash, the latest first."""
    for day in reversed(days.listed(directory)):
        with contextlib.suppress(OSError), DayFile(day.path) as file:
            for place, own in file.schemas().items():
                if own == schema and (known := file.catalogue(place)) is not None:
                    yield known
