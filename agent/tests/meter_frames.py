"""Frames of DL/T 645 and CJ/T 188 written byte by byte, apart from the code they test."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any


def published(name: str) -> list[dict[str, Any]]:
    path = Path(__file__).parent / "frames" / f"{name}.toml"
    frames: list[dict[str, Any]] = tomllib.loads(path.read_text(encoding="utf-8"))["frame"]
    return frames


def summed(body: bytes) -> bytes:
    return body + bytes((sum(body) % 256,)) + b"\x16"


def dlt645(address: str, control: int, data: bytes) -> bytes:
    wire = bytes(int(address[at : at + 2], 16) for at in range(10, -1, -2))
    shifted = bytes((byte + 0x33) % 256 for byte in data)
    return summed(b"\x68" + wire + b"\x68" + bytes((control, len(data))) + shifted)


def cjt188(meter_type: int, address: str, control: int, data: bytes) -> bytes:
    wire = bytes(int(address[at : at + 2], 16) for at in range(12, -1, -2))
    return summed(b"\x68" + bytes((meter_type,)) + wire + bytes((control, len(data))) + data)


def right_sum(frame: dict[str, Any]) -> bytes:
    """Return a published frame, with the sum it should have had."""
    data = bytearray.fromhex(frame["hex"])
    if "checksum" in frame:
        data[-2] = frame["checksum"]
    return bytes(data)
