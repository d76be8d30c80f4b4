"""A line of many small meters in a process of its own, so that its work is not counted as ours.

Owns the process and the line it plays: `python -m hil_tests.speed.line LINK ...` for the child,
`playing(...)` for who measures. A register holds a number that follows from unit and address, so
that a value read wrongly is seen. Commands come on stdin: "dead 3 4" silences units, "dead" none.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from edgeagg_agent.bus.port import line_loop
from hil_tests.services.process import tied_to_parent
from hil_tests.sim.framing import Rtu
from hil_tests.sim.line import Line

T35_CHARS = 3.5


@dataclass(frozen=True, slots=True)
class Wiring:
    """A line: `turnaround_ms` is from the end of a request to the begin of its reply."""

    baud: int
    turnaround_ms: float

    @property
    def silence_ms(self) -> float:
        """Return T3.5, which lies within the turnaround."""
        return 1.75 if self.baud > 19200 else T35_CHARS * 10_000 / self.baud


class Playing:
    """A line that is being played by a child."""

    def __init__(self, link: Path, child: subprocess.Popen[str]) -> None:
        self.link = link
        self._child = child

    def kill_meters(self, units: Sequence[int]) -> None:
        """Silence these units, and no others."""
        if self._child.stdin is None:
            raise ValueError("the child has no stdin")
        self._child.stdin.write(f"dead {' '.join(map(str, units))}\n")
        self._child.stdin.flush()


@contextmanager
def playing(folder: Path, wiring: Wiring) -> Iterator[Playing]:
    """Play a line on a pty under `folder` while the block lasts."""
    link = folder / "line"
    words = [str(link), str(wiring.baud), str(wiring.turnaround_ms - wiring.silence_ms)]
    with subprocess.Popen(
        tied_to_parent([sys.executable, "-m", "hil_tests.speed.line", *words]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            if child.stdout is None or child.stdout.readline() != "ready\n":
                raise RuntimeError("the line did not start")
            yield Playing(link, child)
        finally:
            child.kill()


def content(unit: int, start: int, count: int) -> bytes:
    """Return what registers of a unit hold."""
    return b"".join(
        ((unit * 1009 + register * 7 + 1) & 0xFFFF).to_bytes(2, "big")
        for register in range(start, start + count)
    )


async def _play(link: Path, baud: int, turnaround_ms: float) -> None:
    dead: set[int] = set()
    frames = Rtu()

    async def answer(request: bytes) -> bytes:
        body = frames.unwrap(request)
        if not body or body[0] in dead:
            return b""
        start, count = int.from_bytes(body[2:4], "big"), int.from_bytes(body[4:6], "big")
        data = content(body[0], start, count)
        return frames.wrap(body[:2] + bytes((len(data),)) + data)

    def obey() -> None:
        for words in map(str.split, os.read(sys.stdin.fileno(), 4096).decode().splitlines()):
            dead.clear()
            dead.update(map(int, words[1:]))

    line = Line(
        "line",
        link,
        baud=baud,
        format="8N1",
        turnaround_ms=(turnaround_ms, turnaround_ms),
        rng=Random(1),
        answer=answer,
    )
    with line:
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), obey)
        print("ready", flush=True)
        await line.serve()


def main() -> None:
    """Play a line until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("link", type=Path)
    parser.add_argument("baud", type=int)
    parser.add_argument("turnaround_ms", type=float, help="behind the silence of T3.5")
    words = parser.parse_args()
    with asyncio.Runner(loop_factory=line_loop) as runner:
        runner.run(_play(words.link, words.baud, words.turnaround_ms))


if __name__ == "__main__":
    main()
