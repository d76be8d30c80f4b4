"""Every MQTT topic, built and parsed in one place."""

from __future__ import annotations

from edgeagg.batch import check_gateway
from edgeagg.errors import FormatError

_ROOT = "edgeagg/v1"

BATCHES = f"{_ROOT}/+/batch"
HELLOS = f"{_ROOT}/+/hello"


def batch(gateway: str) -> str:
    """Where a gateway publishes its batches."""
    return f"{_ROOT}/{gateway}/batch"


def hello(gateway: str) -> str:
    """Where a gateway asks for its receipt."""
    return f"{_ROOT}/{gateway}/hello"


def receipt(gateway: str) -> str:
    """Where the platform publishes a gateway's receipts."""
    return f"{_ROOT}/{gateway}/receipt"


def command(gateway: str) -> str:
    """Where the platform publishes what a gateway shall do."""
    return f"{_ROOT}/{gateway}/command"


def answer(gateway: str) -> str:
    """Where a gateway publishes what became of a command."""
    return f"{_ROOT}/{gateway}/answer"


def parse(topic: str) -> tuple[str, str]:
    """Return (gateway, leaf) of one of the topics above; raise FormatError otherwise."""
    parts = topic.split("/")
    if len(parts) != 4 or "/".join(parts[:2]) != _ROOT:
        raise FormatError(f"{topic!r} is not one of our topics")
    return check_gateway(parts[2]), parts[3]
