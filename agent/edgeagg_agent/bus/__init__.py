"""What every bus offers: asking a meter, and the counters an installer looks at.

Owns how a meter wants to be asked, the reply and the `Bus` seam. It knows no port, no socket and no
frame format, and it offers no way to write to a meter: some meters clear their totalisers on a
write.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from edgeagg_agent.protocol import Question

READ_FUNCTIONS = (3, 4)
REGISTERS_MAX = 125  # of one reply: its byte count and the 253-byte PDU allow no more


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """Ask `unit` for `count` registers from PDU address `start`, with function 3 or 4.

    Raises ValueError for anything but a read of one meter, so no other request can be put on a
    line.
    """

    unit: int
    function: int
    start: int
    count: int

    def __post_init__(self) -> None:
        """Check every field against the Modbus limits."""
        if self.function not in READ_FUNCTIONS:
            raise ValueError(f"function {self.function}: only the reads 3 and 4 exist here")
        if not 1 <= self.unit <= 247:  # 0 is the broadcast address, which nobody answers
            raise ValueError(f"unit {self.unit}: allowed are 1 to 247")
        if not 1 <= self.count <= REGISTERS_MAX:
            raise ValueError(f"{self.count} registers: allowed are 1 to {REGISTERS_MAX}")
        if self.start < 0 or self.start + self.count > 0x10000:
            raise ValueError(f"registers {self.start}+{self.count}: allowed are 0 to 65535")

    def __str__(self) -> str:
        """Name the request the way the messages of this package do."""
        registers = "register" if self.count == 1 else "registers"
        return (
            f"unit {self.unit}, function {self.function}, "
            f"{self.count} {registers} from 0x{self.start:04X}"
        )


@dataclass(frozen=True, slots=True)
class LineSettings:
    """How one meter wants to be asked.

    `request_gap_ms` is the silence it needs before a request when that is more than T3.5.
    `turnaround_max_ms` is how long it may take to begin its reply, and `pause_max_ms` the longest
    pause inside a reply (Modbus ASCII: 1000, MODBUS over Serial Line V1.02, 2.5.2.1; DL/T 645: 500,
    its byte gap).
    """

    baud: int
    format: str
    request_gap_ms: int = 0
    turnaround_max_ms: int = 150
    pause_max_ms: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """The data a meter answered, as its protocol carries them, and when.

    `payload` is what `Question.payload` returns. Both times are seconds of the event loop's
    monotonic clock: when the request's first byte went out, and when the reply's last byte had
    arrived.
    """

    payload: bytes
    sent_s: float
    received_s: float


@dataclass(slots=True)
class BusStats:
    """Plain counters of one bus since the agent started.

    `busy_s` is the time the line was occupied by our transactions, silence between frames included.
    `late_replies` came after their time-out and were thrown away; `noise_bytes` belong to no reply
    that was accepted; `echoes` are our own requests heard again; `doubles` are reads spoilt by two
    replies that differ; `reshaped` reads were asked in another shape, `held_back` ones not at all,
    because a late reply could have answered them; `retuned` counts changes of the port's speed or
    format, `reopened` openings after the first.
    """

    transactions: int = 0
    busy_s: float = 0.0
    no_reply: int = 0
    bad_frame: int = 0
    refused: int = 0
    late_replies: int = 0
    noise_bytes: int = 0
    echoes: int = 0
    doubles: int = 0
    reshaped: int = 0
    held_back: int = 0
    retuned: int = 0
    reopened: int = 0


class Bus(Protocol):
    """One serial line or one TCP connection, with one owner."""

    stats: BusStats

    async def exchange(self, question: Question, settings: LineSettings) -> Answer:
        """Ask one meter, and go on asking while it says that more follows.

        Raises LinkError when nothing came back, the link is gone, or a late answer could be taken
        for this one; FrameError when bytes came but no valid answer; RefusedError for the meter's
        refusal.
        """
        ...

    async def close(self) -> None:
        """Give the port or connection back."""
        ...
