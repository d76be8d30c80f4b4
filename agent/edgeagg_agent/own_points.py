"""The gateway's own points as readings: a row each minute, from the counters of every bus."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence

from edgeagg.model import Quality
from edgeagg_agent import books, metrics
from edgeagg_agent.clock import Clock, JudgedClock
from edgeagg_agent.metrics import BusWatch, StateWatch
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.poller import Poller
from edgeagg_agent.recorder import Recorder
from edgeagg_agent.schedule import Schedule, Slot, Wait
from edgeagg_agent.site import Site
from edgeagg_agent.slots import flagged
from edgeagg_agent.waiting import Waiting

_log = logging.getLogger(__name__)

_NAP_MAX_MS = 1_000


class OwnPoints:
    """Samples the buses once a period, and shows the last sample to whoever scrapes it."""

    def __init__(
        self,
        gateway: str,
        group: int,
        watches: Sequence[BusWatch],
        state: StateWatch,
        recorder: Recorder,
        clock: Clock,
    ) -> None:
        """Record as `group` of the catalogue."""
        self._gateway, self._group = gateway, group
        self._watches, self._state = watches, state
        self._recorder, self._clock = recorder, clock
        self._waiting = Waiting(recorder, clock, [group])

    @classmethod
    def of(
        cls,
        site: Site,
        pollers: Sequence[Poller],
        outbox: Outbox,
        recorder: Recorder,
        clock: JudgedClock,
    ) -> OwnPoints:
        """Watch the pollers of a site, one per bus in its order, and what its state keeps."""
        now_s = clock.monotonic_s()
        watches = [
            BusWatch(
                config.name,
                [meter.name for meter in config.meters],
                poller.bus.stats,
                poller.tally,
                now_s=now_s,
            )
            for config, poller in zip(site.buses, pollers, strict=True)
        ]

        def state() -> tuple[int, ...]:
            return (
                outbox.dropped_count,
                recorder.counters.not_kept,
                clock.state.trust,
                clock.state.steps,
                clock.state.last_step_ms,
                recorder.held.retimed_count,
            )

        group = len(site.catalogue().groups) - 1
        return cls(site.gateway, group, watches, StateWatch(state), recorder, clock)

    async def run(self) -> None:
        """Record what falls due; ends only by cancellation."""
        periods_ms = {self._group: metrics.PERIOD_MS}
        schedule, stepped_ms = self._take_over(periods_ms, Quality.STOPPED)
        while True:
            now_ms = self._clock.now_ms()
            if self._waiting.is_over():
                known = self._waiting.release()
                schedule, stepped_ms = self._take_over(periods_ms, Quality.STOPPED, known)
                continue
            if self._clock.stepped_ms != stepped_ms:
                schedule, stepped_ms = self._take_over(periods_ms, Quality.CLOCK_UNTRUSTED)
                continue
            match schedule.pick(now_ms):
                case Wait(until_ms):
                    await self._clock.sleep_ms(min(until_ms - now_ms, _NAP_MAX_MS))
                case Slot() as slot:
                    self._record(slot)

    def _take_over(
        self, periods_ms: Mapping[int, int], reason: Quality, known: Collection[int] = ()
    ) -> tuple[Schedule, int]:
        """Plan from now on; return the plan and the steps of the clock that it knows of."""
        now_ms, stepped_ms = self._clock.now_ms(), self._clock.stepped_ms
        schedule = Schedule(periods_ms, now_ms)
        books.take_over(
            schedule,
            periods_ms,
            self._recorder,
            now_ms,
            reason=reason,
            knows_past=self._clock.knows_past,
            known=known,
        )
        return schedule, stepped_ms

    def _record(self, slot: Slot) -> None:
        books.declare(
            self._recorder,
            slot.group,
            slot.first_missed_ms,
            slot.missed,
            slot.period_ms,
            Quality.OVERRUN,
        )
        now_s = self._clock.monotonic_s()
        values = [value for watch in self._watches for value in watch.sample(now_s)]
        values += self._state.sample()
        if self._waiting.holds(slot.group):
            qualities = bytes(len(values))
            self._waiting.hold(
                slot.group, due_ms=slot.due_ms, age_ms=0, values=values, qualities=qualities
            )
            return
        self._recorder.row(
            slot.group,
            due_ms=slot.due_ms,
            at_ms=max(slot.due_ms, self._clock.now_ms()),
            values=values,
            qualities=flagged(bytes(len(values)), is_trusted=self._clock.is_trusted),
        )

    async def serve(self, host: str, port: int) -> None:
        """Answer every HTTP request on this address with the metrics; ends by cancellation."""
        try:
            server = await asyncio.start_server(self._answer, host, port)
        except OSError as error:
            _log.error("metrics: %s:%d cannot be served: %s", host, port, error.strerror)
            return
        async with server:
            await server.serve_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(5):
                await reader.readuntil(b"\r\n\r\n")
                body = metrics.prometheus(self._gateway, self._watches, self._state).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n"
                    b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
                )
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever asked is gone, or does not speak HTTP
        finally:
            writer.close()
