"""Builds the parts of a running agent and lets them run; decides nothing itself.

A stop (SIGTERM, SIGINT) ends the polling, cuts what is pending, and gives the uplinks a moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import signal
from collections.abc import Coroutine, Sequence

from edgeagg import keyfile
from edgeagg._core import CUT_CELLS_MAX
from edgeagg.batch import Origin
from edgeagg_agent import epochs, health, identity
from edgeagg_agent.budget import budget
from edgeagg_agent.bus import Bus
from edgeagg_agent.bus.serial import SerialBus
from edgeagg_agent.bus.stream import StreamBus
from edgeagg_agent.clock import NS_PER_MS, Clock, JudgedClock
from edgeagg_agent.clock_trust import TimeFile
from edgeagg_agent.desk import Desk
from edgeagg_agent.historian import Historian
from edgeagg_agent.learned import Learned
from edgeagg_agent.memory import Memory
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.own_points import OwnPoints
from edgeagg_agent.poller import Poller
from edgeagg_agent.reader import MeterReader
from edgeagg_agent.recorder import Recorder
from edgeagg_agent.site import BusConfig, Meter, Site
from edgeagg_agent.uplink import Uplink

_log = logging.getLogger(__name__)

_TICK_MS = 1_000
_FAREWELL_MS = 5_000
_REMEMBER_EVERY_TICKS = 60


class Agent:
    """A whole agent on one state directory."""

    def __init__(self, site: Site, clock: JudgedClock, desk: Desk | None = None) -> None:
        """Open the state directory and take up what a former run left. Blocks.

        `desk` says when another site file shall run, and the agent then ends.
        """
        self._site, self._clock, self._desk = site, clock, desk
        self._started_s = clock.monotonic_s()
        now_ms = clock.now_ms()
        self._outbox = Outbox(
            site.state_directory,
            now_ms=epochs.name_ms(now_ms, is_right=clock.is_trusted, below=random.randrange),
            bytes_max=site.state_bytes_max,
            signer=keyfile.load_or_make(site.key_file),
        )
        following = identity.following(site.key_file)
        if following is not None and self._outbox.announces(following.public):
            # a former start got as far as that
            identity.adopt(site.key_file)
            self._outbox.signer, following = following, None
        self._time_file = TimeFile(site.state_directory)
        self._recorder = Recorder(
            site.state_directory,
            self._outbox,
            site.gateway,
            site.catalogue(),
            now_ms=now_ms,
            boot=self._time_file.boot,
            knows_time=clock.is_trusted,
        )
        if following is not None:
            self._recorder.follow_key(following, now_ms)
            identity.adopt(site.key_file)
        if not clock.is_trusted:
            self._recorder.held.begin(range(len(site.catalogue().groups)))
            _log.warning("clock: nobody vouches for the time; what is read waits for it")
        if desk is not None and self._outbox.signer is not None:
            desk.serve(self._outbox.signer)
        self._uplinks = [
            Uplink(
                to,
                site.gateway,
                self._outbox,
                self._outbox.cursor(to.name),
                clock,
                self._leave_epoch,
                desk,
            )
            for to in site.destinations
        ]
        self._recorder.reserve()
        self._first = self._outbox.first
        self._historian = Historian(
            site.state_directory,
            self._outbox,
            clock,
            local_time=site.local_time,
            resend_ms=site.resend_ms,
            history_ms=site.history_ms,
        )
        self._memory = Memory(site.state_directory)
        # once: a plan of a full bus takes longer than a status may
        self._planned_shares = {bus.name: budget(bus.load()).share for bus in site.buses}
        self._stopping = asyncio.Event()
        self.next_origin: Origin | None = None
        """Why another agent must go on in a new epoch; None: it need not."""
        self.is_told_to_stop = False

    def stop(self) -> None:
        """Ask `run` to end in order, for good."""
        self.is_told_to_stop = True
        self._stopping.set()

    async def run(self) -> None:
        """Poll, record and deliver until `stop` or a signal."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.stop)
        pollers = self._pollers()
        try:
            async with asyncio.TaskGroup() as tasks:
                uplinks = _start(tasks, "uplink", [uplink.run() for uplink in self._uplinks])
                health.notify_systemd("READY=1")
                polling = _start(tasks, "poll", [poller.run() for poller in pollers])
                polling += self._watch(tasks, pollers)
                await self._keep_time(pollers)
                if self.next_origin is None and not self._begins_anew:
                    health.notify_systemd("STOPPING=1")
                for task in polling:
                    task.cancel()
                await asyncio.wait(polling)
                self._settle_time()
                await self._flush()
                await self._part()
                for task in uplinks:
                    task.cancel()
        finally:
            if self.next_origin is not None:
                # until the next agent listens, a signal ends the process; it may at any time
                for number in (signal.SIGTERM, signal.SIGINT):
                    asyncio.get_running_loop().remove_signal_handler(number)
            self._write_status(pollers)
            self._remember(pollers)
            for poller in pollers:
                await poller.bus.close()
            self._historian.close()
            self._outbox.close()

    def _pollers(self) -> list[Poller]:
        pollers = []
        group = 0
        for config in self._site.buses:
            bus = make_bus(config)
            groups = {}
            for meter in config.meters:
                reader = self._reader(config, meter, bus)
                for place in range(len(meter.groups)):
                    groups[group] = reader, place
                    group += 1
            spare = 1 - self._planned_shares[config.name]
            pollers.append(Poller(bus, groups, self._recorder, self._clock, spare=spare))
        return pollers

    def _reader(self, config: BusConfig, meter: Meter, bus: Bus) -> MeterReader:
        return make_reader(
            config, meter, bus, self._clock, self._memory.recall(meter.name, meter.profile.name)
        )

    def _watch(
        self, tasks: asyncio.TaskGroup, pollers: Sequence[Poller]
    ) -> list[asyncio.Task[None]]:
        """Start recording, and where the site wants it showing, what the gateway measures."""
        points = OwnPoints.of(self._site, pollers, self._outbox, self._recorder, self._clock)
        running = [points.run()]
        if self._site.metrics_address is not None:
            running.append(points.serve(*self._site.metrics_address))
        return _start(tasks, "own points", running)

    def _remember(self, pollers: Sequence[Poller]) -> None:
        try:
            self._memory.keep([reader for poller in pollers for reader in poller.readers])
            self._time_file.keep(self._clock)
        except OSError as error:
            _log.warning(
                "what was learned of the meters and the time was not kept: %s", error.strerror
            )

    async def _keep_time(self, pollers: Sequence[Poller]) -> None:
        """Once a second commit and report; cut when it is time or the pending readings are many."""
        flush_ms = self._site.flush_ms
        next_flush_s = self._clock.monotonic_s() + flush_ms / 1000
        ticks = 0
        while not self._stopping.is_set():
            await self._wait_for_tick()
            await self._recorder.commit()
            now_s, now_ms = self._clock.monotonic_s(), self._clock.now_ms()
            if now_s >= next_flush_s or self._recorder.pending_cells >= CUT_CELLS_MAX // 2:
                await self._flush()
                next_flush_s = now_s + flush_ms / 1000
            self._write_status(pollers)
            ticks += 1
            if ticks % _REMEMBER_EVERY_TICKS == 0:
                self._remember(pollers)
            if health.is_alive(pollers, now_ms):
                health.notify_systemd("WATCHDOG=1")
            if self._desk is not None:
                self._desk.tick()
            if self._begins_anew:
                self._stopping.set()

    async def _wait_for_tick(self) -> None:
        """Wait a second, or until the stop; history is made meanwhile, while the disk is well."""
        end_s = self._clock.monotonic_s() + _TICK_MS / 1000
        if not self._recorder.is_refused:
            await asyncio.to_thread(self._historian.step)
        with contextlib.suppress(TimeoutError):
            # not wait_for: Python 3.11's loses a cancellation that comes together with the stop
            async with asyncio.timeout(end_s - self._clock.monotonic_s()):
                await self._stopping.wait()

    def _settle_time(self) -> None:
        """Let what waits for the time wait no longer than this run, if it need not or must not."""
        groups = range(len(self._site.catalogue().groups))
        if self._clock.is_trusted:
            self._recorder.release(groups, self._clock.offset_ns // NS_PER_MS)
        elif self.next_origin is not None:
            # the next epoch's journal begins without what this one's holds
            self._recorder.release(groups)

    @property
    def _begins_anew(self) -> bool:
        wanted = self._desk is not None and self._desk.wants_restart
        return wanted and not self.is_told_to_stop

    async def _flush(self) -> None:
        delivered = min(uplink.sender.through for uplink in self._uplinks)
        await self._recorder.cut(self._clock.now_ms(), receipted=delivered)
        await asyncio.to_thread(self._outbox.trim)
        await asyncio.to_thread(self._historian.free)
        # also what a full disk took meanwhile
        first, self._first = self._first, self._outbox.first
        for uplink in self._uplinks:
            uplink.note_dropped(first, self._outbox.first)
            uplink.wake()

    def _leave_epoch(self, why: Origin) -> None:
        """End, so that another agent goes on in a new epoch."""
        self.next_origin = why
        self._stopping.set()

    async def _part(self) -> None:
        """Say farewell, or begin the next epoch with what no destination has receipted."""
        if self.next_origin is None:
            await self._say_farewell()
            return
        try:
            await asyncio.to_thread(self._begin_epoch, self.next_origin)
        except OSError as error:
            # whoever starts next finds the same out again
            _log.error("state directory: %s; no next epoch is begun yet", error.strerror)

    def _begin_epoch(self, why: Origin) -> None:
        if not self._recorder.end_epoch():
            _log.error("state directory: readings wait for it; no next epoch is begun yet")
            return
        self._outbox.begin_epoch(
            self._site.gateway,
            self._recorder.catalogue,
            after=min(uplink.sender.through for uplink in self._uplinks),
            why=why,
            now_ms=self._clock.now_ms(),
        )

    async def _say_farewell(self) -> None:
        """Give connected destinations a moment to receipt the last batches."""
        end_s = self._clock.monotonic_s() + _FAREWELL_MS / 1000
        while self._clock.monotonic_s() < end_s and any(
            uplink.is_connected and uplink.waiting_count for uplink in self._uplinks
        ):
            await self._clock.sleep_ms(50)

    def _write_status(self, pollers: Sequence[Poller]) -> None:
        if self._site.status_file is None:
            return
        values = health.status(
            self._site,
            pollers,
            self._recorder,
            self._outbox,
            self._uplinks,
            planned_shares=self._planned_shares,
            uptime_ms=int(1000 * (self._clock.monotonic_s() - self._started_s)),
            clock=self._clock,
        )
        try:
            health.write_status(self._site.status_file, values)
        except OSError as error:
            _log.warning("cannot write %s: %s", self._site.status_file, error.strerror)


def make_bus(config: BusConfig) -> Bus:
    """Make the bus of a configuration; nothing is opened yet."""
    if config.port:
        return SerialBus(name=config.name, port=config.port)
    if config.is_raw:
        return StreamBus(
            name=config.name,
            host=config.host,
            port=config.tcp_port,
            baud=config.baud,
            format=config.format,
        )
    # pymodbus costs 17 MiB: only where there is a TCP bus
    from edgeagg_agent.bus.tcp import TcpBus  # noqa: PLC0415

    return TcpBus(name=config.name, host=config.host, port=config.tcp_port)


def make_reader(
    config: BusConfig, meter: Meter, bus: Bus, clock: Clock, learned: Learned | None = None
) -> MeterReader:
    """Make the reader of a meter on this bus."""
    return MeterReader(
        meter,
        bus,
        clock,
        ascii_mode=config.ascii_mode,
        planned_us=config.turnaround_ms * 1000,
        learned=learned,
    )


def _start(
    tasks: asyncio.TaskGroup, name: str, coroutines: Sequence[Coroutine[None, None, None]]
) -> list[asyncio.Task[None]]:
    return [
        tasks.create_task(coroutine, name=f"{name}[{place}]")
        for place, coroutine in enumerate(coroutines)
    ]
