"""A real network between gateway and platform: two network namespaces and a cable of our own.

Owns the namespaces, a TUN interface in each, and the thread that carries packets between them; the
kernel's own TCP stands at both ends. A veth pair with netem would do the same where the kernel has
them; TUN needs neither module. Nothing of the machine's own network is touched.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import heapq
import os
import select
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import TypeVar

from hil_tests.proxy import FAIR, Weather
from hil_tests.services.process import Child, tied_to_parent

T = TypeVar("T")

# of RFC 5737's block for documentation: no real network has them
GATEWAY_ADDRESS, PLATFORM_ADDRESS = "198.51.100.1", "198.51.100.2"
INTERFACE = "cable"
_TUN = Path("/dev/net/tun")
# linux/if_tun.h and linux/sched.h
_TUNSETIFF = 0x400454CA
_IFF_TUN_NO_PI = 0x1001
_CLONE_NEWNET = 0x40000000
_PACKET_BYTES_MAX = 65_536
# Where the machine has bbr, its networks have it too, and under bbr the kernel takes no stream for
# thin. A gateway has cubic, which only the machine's own network may choose; with so few packets
# under way it does as reno does.
_OF_ANY_NETWORK = {"net.ipv4.tcp_congestion_control": "reno"}
_LOOK_S = 0.02


def _no_network() -> str:
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    missing = [name for name in ("ip", "unshare", "nsenter") if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed (Debian: iproute2, util-linux)"
    if not _TUN.exists():
        return f"{_TUN} is missing: the kernel has no TUN interfaces"
    made = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False)
    return f"no network namespaces here: {made.stderr.strip()}" if made.returncode else ""


NO_NETWORK = _no_network()
"""Why there can be no Cable here; empty where there can."""


class Cable:
    """The gateway's network, the platform's, and the line between: `with Cable(...).running():`."""

    def __init__(self, directory: Path, *, seed: int = 1) -> None:
        self.weather: Weather = FAIR
        self.swallows = False
        """Whether every packet vanishes without a word: a firewall that forgot, a dead modem."""
        self.carried = 0
        self.vanished = 0
        self._rng = Random(seed)
        self._keepers = [
            Child(
                tied_to_parent(["unshare", "--net", "sleep", "infinity"]),
                name=f"network {name}",
                log=directory / f"network-{name}.log",
            )
            for name in ("gateway", "platform")
        ]

    @property
    def gateway_command(self) -> list[str]:
        """What must stand before a command that is to run in the gateway's network."""
        return ["nsenter", f"--net={_namespace(self._keepers[0])}", "--"]

    @contextlib.contextmanager
    def running(self) -> Iterator[Cable]:
        """Have both networks and the cable while the `with` block lasts."""
        with contextlib.ExitStack() as stack:
            for keeper in self._keepers:
                stack.callback(keeper.kill)
                keeper.start()
                keeper.wait_ready(functools.partial(_is_apart, keeper))
            ends = [_inside(keeper, _open_tun) for keeper in self._keepers]
            for end in ends:
                stack.callback(os.close, end)
            addresses = (GATEWAY_ADDRESS, PLATFORM_ADDRESS)
            for keeper, own, peer in zip(self._keepers, addresses, addresses[::-1], strict=True):
                _ip(keeper, "link", "set", "lo", "up")
                _ip(keeper, "address", "add", own, "peer", peer, "dev", INTERFACE)
                _ip(keeper, "link", "set", INTERFACE, "up")
                _inside(keeper, lambda: _set(_OF_ANY_NETWORK))
            done = threading.Event()
            thread = threading.Thread(target=self._carry, args=(ends, done), daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(done.set)
            yield self

    def listen(self) -> socket.socket:
        """Return a socket that listens at the platform's address, on a port of its own."""
        return _inside(self._keepers[1], lambda: socket.create_server((PLATFORM_ADDRESS, 0)))

    def set_platform(self, settings: Mapping[str, str]) -> list[str]:
        """Set the platform's network by the names of sysctl(8); return what this kernel has not."""
        return _inside(self._keepers[1], lambda: _set(settings))

    def platform_setting(self, name: str) -> str:
        """Return what a setting of the platform's network is."""
        return _inside(self._keepers[1], lambda: place_of(name).read_text().strip())

    def link(self, state: str) -> None:
        """Set the gateway's interface `up` or `down`."""
        _ip(self._keepers[0], "link", "set", INTERFACE, state)

    def route(self, what: str) -> None:
        """Have the gateway `add` or `del` its route to the platform."""
        _ip(self._keepers[0], "route", what, PLATFORM_ADDRESS, "dev", INTERFACE)

    def _carry(self, ends: list[int], done: threading.Event) -> None:
        under_way: list[tuple[float, int, int, bytes]] = []  # due, order, to whom, packet
        while not done.is_set():
            wait_s = _LOOK_S
            if under_way:
                wait_s = min(wait_s, max(0.0, under_way[0][0] - time.monotonic()))
            for end in select.select(ends, [], [], wait_s)[0]:
                # an interface that is down has nothing to say
                with contextlib.suppress(OSError):
                    packet = os.read(end, _PACKET_BYTES_MAX)
                    if self.swallows or self._rng.random() < self.weather.loss:
                        self.vanished += 1
                        continue
                    self.carried += 1
                    due_s = time.monotonic() + self.weather.latency_s
                    other = ends[1 - ends.index(end)]
                    heapq.heappush(under_way, (due_s, self.carried, other, packet))
            while under_way and under_way[0][0] <= time.monotonic():
                _, _, other, packet = heapq.heappop(under_way)
                with contextlib.suppress(OSError):
                    os.write(other, packet)


def _namespace(keeper: Child) -> str:
    return f"/proc/{keeper.pid}/ns/net"


def _is_apart(keeper: Child) -> bool:
    with contextlib.suppress(OSError):
        return Path(_namespace(keeper)).stat().st_ino != Path("/proc/self/ns/net").stat().st_ino
    return False


def _inside(keeper: Child, do: Callable[[], T]) -> T:
    """Run `do` in a namespace, by a thread of its own that ends there; what it opens stays."""

    def enter_and_do() -> T:
        # os.setns is there from Python 3.12 on
        libc = ctypes.CDLL(None, use_errno=True)
        with Path(_namespace(keeper)).open("rb") as namespace:
            if libc.setns(namespace.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        return do()

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(enter_and_do).result()


def _open_tun() -> int:
    """Make the interface and return the end of it that packets come out of."""
    end = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH14x", INTERFACE.encode(), _IFF_TUN_NO_PI))
    return end


def settings_of(file: Path) -> dict[str, str]:
    """Read a file of sysctl.d(5)."""
    lines = (line.strip() for line in file.read_text().splitlines())
    pairs = (line.split("=", 1) for line in lines if line and line[0] not in "#;")
    return {name.strip(): value.strip() for name, value in pairs}


def _set(settings: Mapping[str, str]) -> list[str]:
    unknown = []
    for name, value in settings.items():
        if place_of(name).exists():
            place_of(name).write_text(value)
        else:
            unknown.append(name)
    return unknown


def place_of(name: str) -> Path:
    """Return where the kernel keeps a setting of sysctl(8)."""
    return Path("/proc/sys", *name.split("."))


def _ip(keeper: Child, *command: str) -> None:
    subprocess.run(["nsenter", f"--net={_namespace(keeper)}", "--", "ip", *command], check=True)
