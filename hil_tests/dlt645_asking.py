"""The tests' own side of DL/T 645: a meter to ask, frames wrapped and unwrapped apart from it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from fractions import Fraction
from typing import Any

from hil_tests.sim.dlt645 import Dlt645Meter, Habits
from hil_tests.sim.dlt645_items import Identity, Readings

ADDRESS = "202611220007"
WIRE_ADDRESS = b"\x07\x00\x22\x11\x26\x20"
ANYBODY = b"\xaa" * 6
EVERYBODY = b"\x99" * 6
NOON = datetime(2026, 11, 22, 12, 0, 5)  # noqa: DTZ001 - a meter's clock has no zone; a Sunday
VALUES = {
    "active_energy_import": "123456.789",
    "active_energy_import_t1": "1.5",
    "active_energy_import_t2": "123455.28",
    "active_energy_sum": "-12.34",
    "reactive_energy_q2": "4",
    "reactive_energy_q4": "5",
    "voltage_l1": "231.44",
    "voltage_l2": "0",
    "current_l1": "-12.3456",
    "current_l2": "5000",
    "active_power_total": "-12345.64",
    "active_power_l1": "250000",
    "frequency": "49.985",
    "power_factor_total": "-0.9871",
    "reactive_power_l1": "-4560",
    "phase_angle_l1": "31.5",
    "thd_voltage_l2": "1.25",
    "active_power_demand_import_max": "56789.4",
}


def wrapped(address: bytes, control: int, data: bytes) -> bytes:
    body = b"\x68" + address + b"\x68" + bytes((control, len(data)))
    body += bytes((byte + 0x33) & 0xFF for byte in data)
    return body + bytes((sum(body) & 0xFF, 0x16))


def unwrapped(reply: bytes, *, preamble: int) -> tuple[bytes, int, bytes]:
    """Check all that makes a frame whole; return address, control code and data before +33H."""
    assert reply[:preamble] == b"\xfe" * preamble
    body = reply[preamble:]
    assert (body[0], body[7], body[-1]) == (0x68, 0x68, 0x16)
    assert len(body) == 12 + body[9]
    assert body[9] <= 200
    assert sum(body[:-2]) & 0xFF == body[-2]
    return body[1:7], body[8], bytes((byte - 0x33) & 0xFF for byte in body[10:-2])


def fractions(values: Mapping[str, str]) -> dict[str, Fraction]:
    return {name: Fraction(value) for name, value in values.items()}


def behind(now: Mapping[str, Fraction], kwh: int) -> dict[str, Fraction]:
    name = "active_energy_import"
    return {name: now[name] - kwh} if name in now else {}


def make_meter(
    values: Mapping[str, str] = VALUES,
    *,
    identity: Identity | None = None,
    settled: int = 0,
    **habits: Any,  # noqa: ANN401 - any of `Habits`
) -> Dlt645Meter:
    # Counters of the n-th settlement day are n kWh behind, those of the n-th midnight 100 n.
    now = fractions(values)
    readings = Readings(
        clock=NOON,
        now=now,
        settled=tuple(behind(now, day) for day in range(1, settled + 1)),
        frozen=(behind(now, 100), behind(now, 200)),
        peaked={"active_power_demand_import_max": datetime(2026, 11, 3, 17, 45)},  # noqa: DTZ001
    )
    return Dlt645Meter(
        identity if identity is not None else Identity(address=ADDRESS, number="000000123456"),
        readings=lambda _now_ms: readings,
        habits=Habits(**{"preamble": 0, **habits}),
    )


def ask(meter: Dlt645Meter, di: str, *, control: int = 0x11, more: bytes = b"") -> tuple[int, str]:
    """Read an identifier as it is written, high byte first; return control code and data."""
    data = bytes.fromhex(di)[::-1]
    reply = meter.answer(wrapped(WIRE_ADDRESS, control, data + more), 0)
    address, told, content = unwrapped(reply, preamble=meter.habits.preamble)
    assert address == WIRE_ADDRESS
    if not told & 0x40:
        assert content.startswith(data)
        content = content[len(data) :]
    return told, content.hex()
