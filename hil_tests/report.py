"""The table at the end of a run of the scenarios; works with xdist, whose workers pass it on.

A scenario writes its verdict into its test's user properties; the terminal's end reads them all.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from hil_tests.verdict import Verdict

PROPERTY = "edgeagg-scenario"
_COLUMNS = ("due", "values", "reasons", "missed", "energies", "wrong", "lost", "doubled")
_HEADS = (
    "scenario",
    "readings due",
    "values",
    "reasons",
    "missed",
    "energies",
    "wrong values",
    "lost",
    "doubled",
)


def record(request: pytest.FixtureRequest, name: str, verdict: Verdict, remark: str = "") -> None:
    """Keep the verdict of a scenario for the table."""
    values = asdict(verdict) | {"name": name, "remark": remark}
    request.node.user_properties.append((PROPERTY, json.dumps(values)))


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lay out the rows; what is wrong, lost or doubled is named below."""
    cells = [[row["name"], *(f"{row[column]:,}" for column in _COLUMNS)] for row in rows]
    widths = [max(len(line[at]) for line in (_HEADS, *cells)) for at in range(len(_HEADS))]
    lines = []
    for line in (_HEADS, *cells):
        numbers = "  ".join(
            f"{cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True)
        )
        lines.append(f"{line[0]:<{widths[0]}}  {numbers}")
    lines += [f"{row['name']}: {row['remark']}" for row in rows if row["remark"]]
    lines += [f"{row['name']}: {note}" for row in rows for note in row["notes"]]
    return lines


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table when there were scenarios."""
    rows = [
        json.loads(str(value))
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, value in report.user_properties
        if name == PROPERTY
    ]
    if rows:
        terminalreporter.section("scenarios")
        for line in table(sorted(rows, key=lambda row: str(row["name"]))):
            terminalreporter.write_line(line)
