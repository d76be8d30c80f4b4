"""Energy meters of a district on its monitoring platform: what both ends share."""

from edgeagg._core import VERSION
from edgeagg.batch import Batch, BatchKind, Hello, Receipt
from edgeagg.errors import (
    ConfigError,
    EdgeaggError,
    FormatError,
    FrameError,
    LinkError,
    ProtocolError,
    RefusedError,
    StoreError,
)
from edgeagg.model import Catalogue, Group, Kind, MeterInfo, PointInfo, Quality

__all__ = [
    "Batch",
    "BatchKind",
    "Catalogue",
    "ConfigError",
    "EdgeaggError",
    "FormatError",
    "FrameError",
    "Group",
    "Hello",
    "Kind",
    "LinkError",
    "MeterInfo",
    "PointInfo",
    "ProtocolError",
    "Quality",
    "Receipt",
    "RefusedError",
    "StoreError",
    "__version__",
]

__version__ = VERSION
