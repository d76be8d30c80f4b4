"""A gateway that takes commands, and a platform that sends them, without a network."""

from dataclasses import replace
from pathlib import Path

from agent.tests.fakes import GATEWAY, START_MS, FakeClock, write_site
from edgeagg._core import SecretKey
from edgeagg.command import Answer, Command, CommandKind
from edgeagg.errors import ConfigError
from edgeagg.seal import Domain, Signer, key_text, signed_by
from edgeagg_agent.desk import Desk

GATEWAY_KEY, ONE, TWO, STRANGER = (Signer(SecretKey(bytes([n]) * 32)) for n in (9, 1, 2, 3))
TRIAL_MS = 600_000

COMMANDED = (
    ('clock = "host"', "remote_configuration = true"),
    ('[status]\nfile = "DIRECTORY/status.json"\n', ""),
    ('"switchroom"\nport = "/dev/none-a"', '"hall"\nport = "/dev/hall"'),
    (
        '127.0.0.1:1883"\n',
        f"""127.0.0.1:1883"
platform_keys = ["{key_text(ONE.public)}", "{key_text(TWO.public)}"]

[[destination]]
name = "second"
broker = "mqtt://127.0.0.2:1883"
""",
    ),
)
"""What the usual site file needs so that a platform may push another one."""


class Gateway:
    """An agent's desk over restarts, with a clock that a test moves."""

    def __init__(self, folder: Path, *changes):
        self.file = write_site(folder, *COMMANDED, *changes)
        self.clock = FakeClock()
        self.missing_ports = []
        self.desk = None
        self.start()

    def start(self):
        """Start the agent's process, after a kill or for the first time."""
        if self.desk is not None:
            self.desk.close()
        self.desk = Desk(self.file, self.clock, self.check_ports)
        self.desk.serve(GATEWAY_KEY)

    def check_ports(self, site):
        for bus in site.buses:
            if bus.port in self.missing_ports:
                raise ConfigError(site.file, f"bus[{bus.name}].port", "does not exist", "a port")

    def pushed(self, *changes):
        """Return the text of the site file with changes."""
        text = self.file.read_text()
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new, 1)
        return text.encode()

    def command(self, payload, number=1, **changes):
        made = Command(
            GATEWAY,
            number,
            CommandKind.CONFIGURE,
            self.clock.now_ms(),
            self.clock.now_ms() + 3_600_000,
            payload,
        )
        return replace(made, **changes)

    async def take(self, command, *signers, destination=0):
        """Hand a command over; return the answer, None where nobody is answered."""
        return await self.take_bytes(command.to_bytes(*(signers or (ONE,))), destination)

    async def take_bytes(self, data, destination=0):
        return parsed(await self.desk.take(data, self.desk.site.destinations[destination]))

    async def push(self, *changes, number=1, signers=(ONE,)):
        """Push a change of the site file and begin anew with it."""
        answer = await self.take(self.command(self.pushed(*changes), number), *signers)
        assert self.desk.wants_restart, answer
        self.start()
        return answer

    def run_s(self, seconds):
        """Let the agent run, a tick a second, until it wants to begin anew."""
        self.desk.tick()
        for _ in range(seconds):
            self.clock.pass_ms(1000)
            self.desk.tick()
            if self.desk.wants_restart:
                return


def parsed(data):
    """Return a signed answer; None for none."""
    if data is None:
        return None
    assert signed_by(data, Domain.ANSWER, [GATEWAY_KEY.public])
    return Answer.from_bytes(data)


__all__ = ["ONE", "START_MS", "STRANGER", "TRIAL_MS", "TWO", "Gateway", "parsed"]
