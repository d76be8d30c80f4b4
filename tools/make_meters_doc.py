"""Write docs/meters.md from the profiles; with --check only tell whether it is up to date."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from edgeagg_agent.profile import KINDS, Profile, load, names

_DOC = Path(__file__).parent.parent / "docs/meters.md"
_HEAD = """# Meters

Made by `tools/make_meters_doc.py` from the profiles in `agent/edgeagg_agent/profiles`; change a
profile, then run it again.

A meter in the site file names its profile: `profile = "eastron-sdm630"`. **verified**: two
independent sources agree on voltage, current, power and an energy register. **draft**: compare one
reading with the meter's display before you trust it, power and energy at the least: a factor of 10,
100, 1000 or of the current transformer is what goes wrong most often. In a verified profile "of
them draft" counts the points without a second source.

Recognised by: *model* is a register that names the model, *range* a register whose content is only
plausible for it, - nothing; such a meter has to be named by hand. Port: the factory setting where
it is known; look at the meter's display first.

How to write a profile of your own: `agent/edgeagg_agent/profiles/README.md`.
"""
_TITLES = {
    "electricity": "Electricity",
    "dc-electricity": "Direct current",
    "water": "Water",
    "heat": "Heat",
    "flow": "Flow",
    "gas": "Gas",
    "pv-inverter": "Inverters",
    "storage": "Storage",
    "ev-charger": "Charging points",
    "environment": "Environment",
    "gateway": "Gateways",
}
_PROTOCOLS = {
    "modbus": "Modbus",
    "dlt645-2007": "DL/T 645-2007",
    "dlt645-1997": "DL/T 645-1997",
    "cjt188": "CJ/T 188",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the document; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; 1 if it is out of date"
    )
    options = parser.parse_args(arguments)
    text = meters_doc([load(name, ()) for name in names(())])
    if not options.check:
        _DOC.write_text(text, encoding="utf-8")
        return 0
    if _DOC.is_file() and _DOC.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write(f"{_DOC} is out of date: run tools/make_meters_doc.py\n")
    return 1


def meters_doc(profiles: Sequence[Profile]) -> str:
    """Return the document: by kind of meter a table of the profiles, then what to know of each."""
    parts = [_HEAD]
    verified = sum(profile.status == "verified" for profile in profiles)
    points = sum(len(profile.every_point) for profile in profiles)
    parts.append(f"{len(profiles)} profiles, {verified} of them verified, {points} points.\n")
    by_kind = {kind: [one for one in profiles if one.kind == kind] for kind in KINDS}
    parts += [_section(_TITLES[kind], of_kind) for kind, of_kind in by_kind.items() if of_kind]
    return "\n".join(parts)


def _section(title: str, profiles: Sequence[Profile]) -> str:
    lines = [f"## {title}", ""]
    head = ("Vendor", "Models", "Profile", "Status", "Protocol", "Points", "Recognised by", "Port")
    lines += [_line(head), _line(["---"] * len(head))]
    lines += [_line(_cells(profile)) for profile in profiles]
    for profile in profiles:
        if profile.notes:
            lines += ["", f"**{profile.name}**", ""]
            lines += [f"- {note}" for note in profile.notes]
    return "\n".join(lines) + "\n"


def _cells(profile: Profile) -> list[str]:
    drafts = sum(point.status == "draft" for point in profile.every_point)
    points = str(len(profile.every_point))
    if profile.status == "verified" and drafts:
        points += f", {drafts} of them draft"
    protocol = _PROTOCOLS[profile.protocol]
    if profile.sunspec is not None:
        protocol += f", SunSpec {', '.join(map(str, profile.sunspec.models))}"
    return [
        profile.vendor,
        ", ".join(profile.models),
        f"`{profile.name}`",
        profile.status,
        protocol,
        points,
        _recognised(profile),
        _port(profile),
    ]


def _recognised(profile: Profile) -> str:
    if not profile.identify:
        return "-"
    # a value among few is a model's name, a range is what a mains meter may show
    is_model = any(check.equals or check.min == check.max for check in profile.identify)
    return "model" if is_model else "range"


def _port(profile: Profile) -> str:
    serial = profile.serial
    if serial is None:
        return "-"
    unit = f", unit {serial.unit}" if serial.unit is not None else ""
    return f"{serial.baud} {serial.format}".rstrip() + unit


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


if __name__ == "__main__":
    sys.exit(main())
