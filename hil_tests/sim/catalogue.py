"""What `edgeagg-sim` says about itself: the lists of faults, patterns, loads and profiles.

Owns the texts of the command; it starts nothing.
"""

from __future__ import annotations

from pathlib import Path

from hil_tests.sim.errors import SimError
from hil_tests.sim.kinds import KINDS, Kind
from hil_tests.sim.loads import LOADS
from hil_tests.sim.patterns import PATTERNS
from hil_tests.sim.profile import load_profile
from hil_tests.sim.tables import read_toml

EXAMPLE = """\
example of a site file:

  seed = 1
  start_ms = 1764000000000      # counters are zero (plus initial_kwh) at this UTC time
  day_speed = 240               # a day of the loads' course takes six minutes
  # profiles = "my_profiles"    relative to this file; default: those of the agent

  [[line]]                      # RS-485 on a pty
  name = "bus1"
  link = "/tmp/demo/bus1"       # the agent's `port`
  baud = 9600
  format = "8E1"
  turnaround_ms = [10, 25]
  # mode = "ascii"              # Modbus ASCII
  [[line.meter]]
  name = "incomer"
  unit = 1
  profile = "acrel-adl400"
  ratios = { ct = 40, pt = 1 }
  initial_kwh = 12345.0
  children = ["workshop_a", "pv"]
  loss_percent = 1.5            # of what the children take
  [[line.meter]]
  name = "workshop_a"
  unit = 2
  profile = "chint-dtsu666"
  load = "plant"                # or csv = "power.csv" with the columns t_s,power_w
  scale_kw = 60
  pattern = "dip_1000"          # what its counters do wrong, and when
  at_s = 600
  [[line]]                      # Modbus TCP on 127.0.0.1; rtu_tcp = a serial server's raw port
  name = "roof"
  tcp = 15502
  [[line.meter]]
  name = "pv"
  unit = 1
  profile = "sunspec-meter-213" # or sunspec = [103, 203]: one device with several models
  load = "pv"
  scale_kw = 30
  # dead = true                 # never answers

  [[line]]                      # meters of other protocols and bauds share a serial line
  name = "bus2"
  link = "/tmp/demo/bus2"
  baud = 9600
  format = "8N1"
  [[line.meter]]
  name = "feeder"
  protocol = "dlt645-2007"      # or dlt645-1997
  address = "001210174069"
  baud = 2400                   # it hears nothing else
  format = "8E1"
  turnaround_ms = [20, 80]
  load = "hvac"
  [[line.meter]]
  name = "heating"
  protocol = "cjt188"           # water, hot-water, drinking-water, recycled-water, heat, cooling,
  medium = "heat"               # gas; volumes and heat follow the energy of the load
  address = "00000000000020"
  baud = 2400
  format = "8E1"
  load = "base"
  # same_unit = true            # allows the unit id or address of another meter: both answer

  [[fault]]                     # `edgeagg-sim faults` lists the kinds
  meter = "workshop_a"          # or line = "bus1"
  kind = "late"
  from_s = 60                   # since start_ms; for_s, repeat_s, every, probability: optional
  for_s = 30
  ms = 700

stop with Ctrl-C or SIGTERM; counters go on as if it had never stopped.
"""


def fault_rows() -> list[str]:
    """List faults, patterns and loads, one line each."""
    rows = ["faults ([[fault]] with meter or line, from_s, for_s, repeat_s, every, probability):"]
    rows += ["  all of them strike Modbus, DL/T 645 and CJ/T 188 meters, but where a note says so"]
    rows += [f"  {name:<20}{_fault_text(kind)}" for name, kind in KINDS.items()]
    rows += ["", "patterns of counters (in [[line.meter]] of any protocol: pattern, at_s, for_s):"]
    rows += [
        f"  {name:<20}{recipe.text}" for name, recipe in PATTERNS.items() if name != "brown_out"
    ]
    return [*rows, "", f"loads: {', '.join(LOADS)}; or csv = a file with t_s,power_w"]


def _fault_text(kind: Kind) -> str:
    parameters = {**kind.parameters}
    if kind.probability < 1:
        parameters["probability"] = kind.probability
    notes = [f"{key} = {value:g}" for key, value in parameters.items()]
    if not kind.tcp:
        notes.append("not on Modbus TCP")
    if kind.addressed:
        notes.append(f"DL/T 645, CJ/T 188: {kind.addressed}")
    if kind.whole_line:
        notes.append("whole line")
    return kind.text + (f"  [{'; '.join(notes)}]" if notes else "")


def profile_rows(directory: Path) -> list[str]:
    """List the profiles of a folder: name, number of points, vendor and models."""
    files = sorted(directory.glob("*.toml"))
    if not files:
        raise SimError(f"{directory}: no profiles here")
    rows = []
    for file in files:
        about = read_toml(file)
        if "points" not in about:
            continue
        profile = load_profile(file.stem, directory)
        count = len(profile.points) or profile.items_count
        models = ", ".join(map(str, about.get("models", ())))
        rows.append(f"{file.stem:<24}{count:>4} points  {about.get('vendor', '')}: {models}")
    return [*rows, "sunspec = [103, 203]     several SunSpec models: 103 inverter, 203 meter"]
