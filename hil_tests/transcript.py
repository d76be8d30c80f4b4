"""Transcripts: what a meter and the agent said to each other, byte by byte, in a text file.

Owns the file's form and the bus that replays a file under the agent's own reader; bytes come from
`hil_tests.tap`. A transcript keeps the requests it was recorded with, so it stays readable
when the planner asks in other blocks one day. Modbus RTU only.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import struct
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from edgeagg.errors import EdgeaggError, FrameError, LinkError, ProtocolError, RefusedError
from edgeagg.model import Quality
from edgeagg_agent.asking import Address
from edgeagg_agent.bus import Answer, Bus, BusStats, LineSettings, ReadRequest
from edgeagg_agent.clock import SystemClock
from edgeagg_agent.config import load_site
from edgeagg_agent.profile import Point, Profile, Ratio, load, matches
from edgeagg_agent.protocol import Question
from edgeagg_agent.protocol.modbus import RtuQuestion, rtu_request
from edgeagg_agent.reader import MeterReader
from edgeagg_agent.scan import Scan
from edgeagg_agent.site import BusConfig, Meter, PointGroup
from hil_tests.tap import Exchange, tapped_bus

_HEADER = ("meter", "unit", "profile", "baud", "format")
_SECTIONS = ("identify", "ratios", "read")
_BYTES_PER_LINE = 24
_PERIOD_MS = 60_000

_FORM = """\
form of a transcript:

  # meter: incomer
  # unit: 1
  # profile: eastron-sdm630
  # baud: 9600
  # format: 8N1
  # note: any text; this line may be absent

  # read                          the sections are identify, ratios and read
  >> 01 04 00 00 00 02 71 cb      what the agent sent
  << 01 04 04 43 66 1a 00 05 7f   all that came before the next request; absent: no reply

  = identify: matches             what the agent makes of it
  = voltage_l1: 230.1 V
  = voltage_l2: implausible
"""


class TranscriptError(EdgeaggError):
    """A transcript that cannot be read, made or replayed; the message says why."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """A recorded meter: `sections` in the order they were spoken, `findings` by name."""

    meter: str
    unit: int
    profile: str
    baud: int
    format: str
    note: str
    sections: Mapping[str, tuple[Exchange, ...]]
    findings: Mapping[str, str]

    def to_text(self) -> str:
        """Write the file's text."""
        header = [f"# {key}: {getattr(self, key)}" for key in _HEADER]
        parts = ["\n".join([*header, f"# note: {self.note}"] if self.note else header)]
        for section, exchanges in self.sections.items():
            spoken = [
                "\n".join([*_hex(">>", exchange.request), *_hex("<<", exchange.reply)])
                for exchange in exchanges
            ]
            if spoken:
                parts += [f"# {section}\n{spoken[0]}", *spoken[1:]]
        parts.append("\n".join(f"= {name}: {found}" for name, found in self.findings.items()))
        return "\n\n".join(parts) + "\n"

    @staticmethod
    def from_text(text: str, where: str) -> Transcript:
        """Read a file's text; raise TranscriptError naming `where` and the line."""
        return _Parser(where).parse(text)


class _Parser:
    def __init__(self, where: str) -> None:
        self._where = where
        self._line = 0
        self._header: dict[str, str] = {}
        self._sections: dict[str, list[tuple[bytearray, bytearray]]] = {}
        self._section = ""
        self._findings: dict[str, str] = {}

    def parse(self, text: str) -> Transcript:
        exchange_is_open = False
        for self._line, line in enumerate(text.splitlines(), start=1):
            sign, _, rest = line.strip().partition(" ")
            match sign:
                case "":
                    exchange_is_open = False
                case "#":
                    self._comment(rest)
                case ">>":
                    self._request(rest, continues=exchange_is_open)
                    exchange_is_open = True
                case "<<":
                    self._reply(rest)
                case "=":
                    self._finding(rest)
                case _:
                    raise self._error(f"{line!r}; a line begins with #, >>, << or =")
        for key in _HEADER:
            if key not in self._header:
                raise TranscriptError(f'{self._where}: the line "# {key}: ..." is missing')
        return Transcript(
            meter=self._header["meter"],
            unit=self._number("unit"),
            profile=self._header["profile"],
            baud=self._number("baud"),
            format=self._header["format"],
            note=self._header.get("note", ""),
            sections={
                name: tuple(Exchange(bytes(request), bytes(reply)) for request, reply in spoken)
                for name, spoken in self._sections.items()
            },
            findings=self._findings,
        )

    def _comment(self, rest: str) -> None:
        key, colon, value = rest.partition(":")
        if colon and key in (*_HEADER, "note"):
            self._header[key] = value.strip()
        elif rest in _SECTIONS:
            self._section = rest
            self._sections.setdefault(rest, [])
        else:
            known = ", ".join(f"{key}:" for key in (*_HEADER, "note"))
            raise self._error(f"# {rest}; allowed behind # are {known} {', '.join(_SECTIONS)}")

    def _request(self, rest: str, *, continues: bool) -> None:
        if not self._section:
            raise self._error(f"a request before any of # {', # '.join(_SECTIONS)}")
        spoken = self._sections[self._section]
        if continues and not spoken[-1][1]:
            spoken[-1][0].extend(self._bytes(rest))
        else:
            spoken.append((bytearray(self._bytes(rest)), bytearray()))

    def _reply(self, rest: str) -> None:
        if not self._section or not self._sections[self._section]:
            raise self._error("a reply before its request")
        self._sections[self._section][-1][1].extend(self._bytes(rest))

    def _finding(self, rest: str) -> None:
        name, colon, value = rest.partition(":")
        if not colon or name in self._findings:
            raise self._error(f"{rest!r}; each reading once, as NAME: VALUE UNIT or NAME: REASON")
        self._findings[name] = value.strip()

    def _bytes(self, text: str) -> bytes:
        try:
            return bytes.fromhex(text)
        except ValueError:
            raise self._error(f"{text!r} is not bytes in hexadecimal") from None

    def _number(self, key: str) -> int:
        if not self._header[key].isdecimal():
            found = self._header[key]
            raise TranscriptError(f"{self._where}: {key}: {found!r}, a whole number expected")
        return int(self._header[key])

    def _error(self, what: str) -> TranscriptError:
        return TranscriptError(f"{self._where}, line {self._line}: {what}")


class ReplayBus:
    """A bus that answers from a transcript, and to nothing that was not asked then.

    Where the agent asks in other blocks today, the registers come from the replies that hold them.
    """

    def __init__(self, transcript: Transcript) -> None:
        self.stats = BusStats()
        self._meter = transcript.meter
        self._left: dict[bytes, deque[bytes]] = {}
        self._spoken: list[tuple[ReadRequest, bytes]] = []
        for section in _SECTIONS:
            for exchange in transcript.sections.get(section, ()):
                self._left.setdefault(exchange.request, deque()).append(exchange.reply)
                self._spoken.append((_request(exchange), exchange.reply))

    @property
    def unused(self) -> int:
        """Return how many exchanges nobody asked for."""
        return sum(map(len, self._left.values()))

    async def exchange(self, question: Question, settings: LineSettings) -> Answer:  # noqa: ARG002
        """Ask, and judge the recorded bytes as a serial bus would; see `Bus.exchange`."""
        if not isinstance(question, RtuQuestion):
            raise TranscriptError(f"{self._meter}: {question}: transcripts hold Modbus RTU frames")
        now_s = asyncio.get_running_loop().time()
        if self._left.get(question.request):
            reply = self._left[question.request].popleft()
            return Answer(self._judged(question, reply), now_s, now_s)
        return Answer(self._gathered(question.read), now_s, now_s)

    async def close(self) -> None:
        """Do nothing: a file is not held open."""

    def _judged(self, question: RtuQuestion, reply: bytes) -> bytes:
        if not reply:
            raise LinkError(f"{self._meter}: {question}: no reply")
        found = question.find(reply)
        if found is None:
            raise FrameError(f"{self._meter}: {question}: {question.describe_junk(reply)}", reply)
        return question.payload(found.frame)

    def _gathered(self, wanted: ReadRequest) -> bytes:
        """Return registers out of the replies around them; what nobody asked for then is 0."""
        registers: dict[int, bytes] = {}
        for request, reply in self._spoken:
            if (request.unit, request.function) != (wanted.unit, wanted.function):
                continue
            if request.start < wanted.start + wanted.count and (
                wanted.start < request.start + request.count
            ):
                left = self._left[rtu_request(request)]
                if left:
                    left.popleft()
                payload = self._judged(RtuQuestion(request), reply)
                for place in range(request.count):
                    registers[request.start + place] = payload[2 * place : 2 * place + 2]
        if not registers:
            raise TranscriptError(f"{self._meter}: {wanted}: the transcript does not hold this")
        places = range(wanted.start, wanted.start + wanted.count)
        return b"".join(registers.get(place, b"\0\0") for place in places)


async def identify(meter: Meter, bus: Bus) -> bool:
    """Tell whether the meter shows what its profile expects of the model.

    A meter that refuses a register is of another model. Raises LinkError and FrameError.
    """
    found = []
    for check in meter.profile.identify:
        unit = meter.address.unit
        request = ReadRequest(unit, check.function, check.register, check.count)
        try:
            answer = await bus.exchange(RtuQuestion(request), meter.settings)
        except RefusedError:
            found.append(False)
        else:
            found.append(matches(check, answer.payload))
    return all(found)


async def record(config: BusConfig, meter: Meter, *, note: str) -> Transcript:
    """Identify and read one meter over its serial line, and write down every byte.

    All points are read at once, whatever their periods. Raises LinkError when the meter does not
    answer, TranscriptError for one on TCP, of Modbus ASCII or of another protocol.
    """
    if config.host:
        raise TranscriptError(f"{meter.name} is on TCP; transcripts hold Modbus RTU frames")
    if config.ascii_mode or meter.profile.protocol != "modbus":
        speaks = "Modbus ASCII" if config.ascii_mode else meter.profile.protocol
        raise TranscriptError(f"{meter.name} speaks {speaks}; transcripts hold Modbus RTU frames")
    meter = dataclasses.replace(meter, groups=(PointGroup(_PERIOD_MS, meter.points),))
    bus, tap = tapped_bus(config)
    try:
        is_model = await identify(meter, bus)
        identifying = tap.exchanges
        (scan,) = await MeterReader(meter, bus, SystemClock()).scan()
    finally:
        await bus.close()
    if not any(exchange.reply for exchange in tap.exchanges):
        raise LinkError(f"{meter.name} does not answer: {config.where}, {meter.address}")
    ratios: list[Exchange] = []
    blocks: list[Exchange] = []
    for exchange in tap.exchanges[len(identifying) :]:
        holds_points = any(_covers(_request(exchange), p) for p in meter.profile.points)
        (blocks if holds_points or blocks else ratios).append(exchange)
    return Transcript(
        meter=meter.name,
        unit=meter.address.unit,
        profile=meter.profile.name,
        baud=meter.settings.baud,
        format=meter.settings.format,
        note=note,
        sections={
            "identify": tuple(identifying),
            "ratios": tuple(ratios),
            "read": tuple(blocks),
        },
        findings=findings_of(meter, scan, is_model=is_model),
    )


async def replay(transcript: Transcript, folders: Sequence[Path] = ()) -> dict[str, str]:
    """Let the agent's reader read the transcript; return what it finds, by name.

    `folders` hold profiles besides the shipped ones. Raises TranscriptError when the profile asks
    for what was not recorded, or for less.
    """
    meter = meter_of(transcript, load(transcript.profile, folders))
    bus = ReplayBus(transcript)
    is_model = await identify(meter, bus)
    (scan,) = await MeterReader(meter, bus, SystemClock()).scan()
    if bus.unused:
        raise TranscriptError(f"{transcript.meter}: {bus.unused} exchanges were not asked for")
    return findings_of(meter, scan, is_model=is_model)


def meter_of(transcript: Transcript, profile: Profile) -> Meter:
    """Make the meter as it was read then, with those points."""
    points = tuple(point for point in profile.points if point.name in transcript.findings)
    used = {name for point in points for name in point.ratios}
    ratios = [ratio for ratio in profile.ratios if ratio.name in used]
    spoken = [
        _request(exchange)
        for section in ("ratios", "read")
        for exchange in transcript.sections.get(section, ())
    ]
    wanted: tuple[Point | Ratio, ...] = (*points, *ratios)
    for one in wanted:
        if not any(_covers(request, one) for request in spoken):
            raise TranscriptError(
                f"{transcript.meter}: profile {transcript.profile} has {one.name} at "
                f"0x{one.register:04X} (function {one.function}), which was not recorded"
            )
    gap_ms = profile.limits.request_gap_ms
    return Meter(
        name=transcript.meter,
        address=Address(unit=transcript.unit),
        profile=dataclasses.replace(profile, points=points),
        settings=LineSettings(transcript.baud, transcript.format, gap_ms),
        tier=1,
        parent="",
        sub_item="",
        groups=(PointGroup(_PERIOD_MS, points),),
    )


def _covers(request: ReadRequest, one: Point | Ratio) -> bool:
    end = request.start + request.count
    is_inside = request.start <= one.register and one.register + one.count <= end
    return request.function == one.function and is_inside


def _request(exchange: Exchange) -> ReadRequest:
    frame = exchange.request
    try:
        request = ReadRequest(*struct.unpack(">BBHH", frame[:6]))
    except (struct.error, ValueError) as error:
        raise TranscriptError(f"{frame.hex(' ')} is no read request: {error}") from None
    if rtu_request(request) != frame:
        raise TranscriptError(f"{frame.hex(' ')} is no read request: the CRC is wrong")
    return request


def findings_of(meter: Meter, scan: Scan, *, is_model: bool) -> dict[str, str]:
    """Write readings as a transcript notes them: exact values, or why there is none."""
    found = {"identify": "matches" if is_model else "differs"}
    for point, value, quality in zip(meter.points, *scan.decode(), strict=True):
        if value is None:
            found[point.name] = Quality(quality).name.lower()
        else:
            found[point.name] = f"{Decimal(value).scaleb(point.exponent):f} {point.unit}"
    return found


def _hex(sign: str, data: bytes) -> list[str]:
    return [
        f"{sign} {data[start : start + _BYTES_PER_LINE].hex(' ')}"
        for start in range(0, len(data), _BYTES_PER_LINE)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 1 if the meter or the replay failed, 2 for a wrong file."""
    parser = argparse.ArgumentParser(
        prog="python -m hil_tests.transcript",
        description="Records what a meter says byte by byte, and replays it without the meter.",
        epilog=_FORM,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    sub = commands.add_parser("record", help="read one meter and print the transcript")
    sub.add_argument("site", type=Path, help="the agent's site file")
    sub.add_argument("--meter", required=True, help="its name in the site file")
    sub.add_argument("--note", default="", help="a line for the file, such as where it was made")
    sub.set_defaults(command=_record)
    sub = commands.add_parser("replay", help="read transcripts as if they were the meters")
    sub.add_argument("files", type=Path, nargs="+", metavar="file")
    sub.add_argument("--profiles", type=Path, action="append", default=[], help="a folder of them")
    sub.set_defaults(command=_replay)
    options = parser.parse_args(arguments)
    try:
        return int(options.command(options))
    except (EdgeaggError, OSError) as error:
        print(f"transcript: {error}", file=sys.stderr)
        return 1 if isinstance(error, LinkError | ProtocolError) else 2


def _record(options: argparse.Namespace) -> int:
    site = load_site(options.site)
    for config in site.buses:
        for meter in config.meters:
            if meter.name == options.meter:
                print(asyncio.run(record(config, meter, note=options.note)).to_text(), end="")
                return 0
    names = ", ".join(meter.name for meter in site.meters)
    raise TranscriptError(f"{options.site} has no meter {options.meter!r}; it has {names}")


def _replay(options: argparse.Namespace) -> int:
    status = 0
    for file in options.files:
        transcript = Transcript.from_text(file.read_text(encoding="utf-8"), str(file))
        found = asyncio.run(replay(transcript, options.profiles))
        off = [name for name, value in found.items() if transcript.findings.get(name) != value]
        for name in off:
            print(f"{file}: {name}: {found[name]}, noted is {transcript.findings.get(name)}")
        print(f"{file}: {len(found) - len(off)} of {len(found)} as noted")
        status = status or int(bool(off))
    return status


if __name__ == "__main__":
    sys.exit(main())
