"""A real MQTT broker on loopback: the installed mosquitto, or else rumqttd from the iotcore wheel.

Owns the broker's configuration file and process. Publishes and subscribes nothing.
"""

from __future__ import annotations

import shutil
import sys
from enum import StrEnum
from typing import TYPE_CHECKING

from hil_tests.services.process import (
    LOOPBACK,
    START_TIMEOUT_S,
    Child,
    ServiceError,
    accepts_connections,
    port_is_free,
    tied_to_parent,
)

if TYPE_CHECKING:
    from pathlib import Path

# `user` matters only where the bench is root: a broker that becomes somebody else is no longer tied
# to the bench and would outlive a killed one.
_MOSQUITTO = """\
listener {port} {host}
allow_anonymous true
persistence false
user root
"""

# Debian keeps mosquitto where only root's PATH looks.
_SYSTEM_PATH = "/usr/local/sbin:/usr/sbin"

# rumqttd keeps the last `max_segment_count` segments of every subscription in memory: small ones
# bound it to 16 MB. The message size bound is twice what a batch may have.
_RUMQTTD = """\
id = 0
[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 200
max_segment_size = 1048576
max_segment_count = 16
[v4.1]
name = "mqtt-3.1.1"
listen = "{host}:{port}"
next_connection_delay_ms = 1
[v4.1.connections]
connection_timeout_ms = 5000
max_payload_size = 1048576
max_inflight_count = 100
dynamic_filters = true
"""


class BrokerKind(StrEnum):
    """Which broker runs. rumqttd has one port per protocol version and here speaks 3.1.1 only."""

    MOSQUITTO = "mosquitto"
    IOTCORE = "iotcore"


class Broker:
    """A broker without persistence: what a kill loses is lost, as with most brokers."""

    def __init__(self, child: Child, *, port: int, kind: BrokerKind) -> None:
        self._child = child
        self.port = port
        self.kind = kind

    @property
    def pid(self) -> int:
        """Process id of the running broker."""
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.running

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        # Otherwise the wait below would be content with somebody else's broker.
        if not port_is_free(self.port):
            raise ServiceError(f"broker: port {self.port} of {LOOPBACK} is taken; choose another")
        self._child.start()
        self.wait_ready()

    def wait_ready(self, *, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until it takes connections, at most `timeout_s`."""
        self._child.wait_ready(lambda: accepts_connections(self.port), timeout_s=timeout_s)

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._child.kill()

    def stop(self) -> None:
        """End it by SIGTERM. May be repeated."""
        self._child.stop()

    def restart(self) -> None:
        """Start it again on the same port, after stopping it if it runs."""
        self.stop()
        self.start()


def has_mosquitto() -> bool:
    """Tell whether mosquitto is installed."""
    return _mosquitto() is not None


def _mosquitto() -> str | None:
    return shutil.which("mosquitto") or shutil.which("mosquitto", path=_SYSTEM_PATH)


def start_broker(directory: Path, port: int, *, kind: BrokerKind | None = None) -> Broker:
    """Start a broker on 127.0.0.1:`port`; its configuration and log go to `directory`.

    Without `kind` it is mosquitto where that is installed, iotcore elsewhere.
    """
    mosquitto = _mosquitto()
    if kind is None:
        kind = BrokerKind.MOSQUITTO if mosquitto else BrokerKind.IOTCORE
    match kind:
        case BrokerKind.MOSQUITTO:
            if mosquitto is None:
                raise ServiceError("mosquitto is not installed (Debian: apt install mosquitto)")
            configuration = directory / "mosquitto.conf"
            configuration.write_text(_MOSQUITTO.format(host=LOOPBACK, port=port))
            command = [mosquitto, "-c", str(configuration)]
        case BrokerKind.IOTCORE:
            configuration = directory / "rumqttd.toml"
            configuration.write_text(_RUMQTTD.format(host=LOOPBACK, port=port))
            # rumqttd reports every packet as an error; only critical lines tell anything.
            options = ["--config", str(configuration), "--log-level", "CRITICAL"]
            command = [sys.executable, "-m", "iotcore", *options]
    child = Child(tied_to_parent(command), name="broker", log=directory / "broker.log")
    broker = Broker(child, port=port, kind=kind)
    broker.start()
    return broker
