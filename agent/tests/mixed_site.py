"""A site with meters of every protocol on one line, and mistakes in it."""

from agent.tests.fakes import write_site

FEEDER, OLD, WATER, HEAT = "202401150001", "000012345678", "00000012345678", "20180300000042"

MIXED = f"""
[site]
gateway = "qp-0001"
name = "Example office"

[state]
directory = "DIRECTORY/state"

[[destination]]
name = "platform"
broker = "mqtt://127.0.0.1:1883"

[[bus]]
name = "cellar"
port = "/dev/none-b"
baud = 2400
format = "8E1"

[[bus.meter]]
name = "feeder"
address = "{FEEDER}"
profile = "dlt645-2007-generic"
tier = 1
points = ["active_energy_import", "voltage_l1", "voltage_l2"]

[[bus.meter]]
name = "old"
address = "{OLD}"
profile = "dlt645-1997-generic"
tier = 2
parent = "feeder"
points = ["active_energy_import"]

[[bus.meter]]
name = "water"
address = "{WATER}"
profile = "cjt188-generic"
period = "15min"
tier = 2

[[bus.meter]]
name = "heating"
address = "{HEAT}"
edition = "2018"
profile = "cjt188-heat"
period = "15min"
tier = 2

[[bus.meter]]
name = "pump"
unit = 3
baud = 9600
format = "8N1"
profile = "eastron-sdm120"
tier = 3
parent = "old"
points = ["voltage_l1", "active_energy_import"]

[[bus]]
name = "yard"
rtu_tcp = "127.0.0.1"
baud = 9600

[[bus.meter]]
name = "gate"
address = "{FEEDER}"
profile = "dlt645-2007-generic"
tier = 2
points = ["active_energy_import"]
"""


def write_mixed(folder, *changes):
    """Write the site file with the changes made."""
    return write_site(folder, *changes, text=MIXED)


MIXED_MISTAKES = {
    "an address that is too short": (
        [(f'"{FEEDER}"', f'"{FEEDER[1:]}"')],
        "bus[cellar].meter[feeder].address",
        [repr(FEEDER[1:]), "the 12 digits on the meter's plate"],
    ),
    "an address of letters": (
        [(f'"{FEEDER}"', '"2024011500AA"')],
        "bus[cellar].meter[feeder].address",
        ["'2024011500AA'", "the 12 digits on the meter's plate"],
    ),
    "an address as a number": (
        [(f'"{FEEDER}"', FEEDER)],
        "bus[cellar].meter[feeder].address",
        [FEEDER, "text"],
    ),
    "a water meter's address of an electricity meter's length": (
        [(f'"{WATER}"', f'"{WATER[2:]}"')],
        "bus[cellar].meter[water].address",
        [repr(WATER[2:]), "the 14 digits on the meter's plate"],
    ),
    "no address": (
        [(f'address = "{FEEDER}"\n', "")],
        "bus[cellar].meter[feeder].address",
        ["missing"],
    ),
    "a unit id on a DL/T 645 meter": (
        [(f'address = "{FEEDER}"', "unit = 1")],
        "bus[cellar].meter[feeder].unit",
        ["not a key of a meter that speaks dlt645-2007", "address"],
    ),
    "a unit id on a CJ/T 188 meter": (
        [(f'address = "{WATER}"', f'address = "{WATER}"\nunit = 1')],
        "bus[cellar].meter[water].unit",
        ["not a key of a meter that speaks cjt188"],
    ),
    "a type that is no byte": (
        [(f'address = "{WATER}"', f'address = "{WATER}"\ntype = 0x110')],
        "bus[cellar].meter[water].type",
        ["272", "a whole number from 0 to 255"],
    ),
    "a type on a DL/T 645 meter": (
        [(f'address = "{FEEDER}"', f'address = "{FEEDER}"\ntype = 0x10')],
        "bus[cellar].meter[feeder].type",
        ["not a key of a meter that speaks dlt645-2007"],
    ),
    "an edition that does not exist": (
        [('edition = "2018"', 'edition = "2019"')],
        "bus[cellar].meter[heating].edition",
        ["'2019'", "one of 2004, 2018"],
    ),
    "an address twice on a bus": (
        [(f'"{OLD}"', f'"{FEEDER}"')],
        "bus[cellar].meter[old].address",
        [f"{FEEDER} is the address of meter feeder already", "an address of its own"],
    ),
    "one water meter in two editions": (
        [(f'"{HEAT}"\nedition = "2018"', f'"{WATER}"\nedition = "2018"\ntype = 0x10')],
        "bus[cellar].meter[heating].address",
        [f"{WATER} is the address of meter water already"],
    ),
    "a DL/T 645 meter on a tcp bus": (
        [('rtu_tcp = "127.0.0.1"\nbaud = 9600', 'tcp = "127.0.0.1"')],
        "bus[yard].meter[gate].profile",
        ["dlt645-2007-generic speaks dlt645-2007", "Modbus on a tcp bus"],
    ),
    "a serial server without a speed": (
        [('rtu_tcp = "127.0.0.1"\nbaud = 9600', 'rtu_tcp = "127.0.0.1"')],
        "bus[yard].baud",
        ["missing"],
    ),
    "one serial server for two buses": (
        [
            ('port = "/dev/none-b"', 'rtu_tcp = "127.0.0.1:4001"'),
            ('baud = 9600\nformat = "8N1"\n', ""),
        ],
        "bus[yard].rtu_tcp",
        ["127.0.0.1:4001 is the port of bus cellar already", "one bus for each port"],
    ),
    "a meter's own speed behind a serial server": (
        [
            (
                'rtu_tcp = "127.0.0.1"\nbaud = 9600\n\n[[bus.meter]]',
                'rtu_tcp = "127.0.0.1"\nbaud = 9600\n\n[[bus.meter]]\nbaud = 2400',
            )
        ],
        "bus[yard].meter[gate].baud",
        ["not a key behind a serial server", "that of the whole bus"],
    ),
    "seven bits for a meter that needs eight": (
        [('format = "8E1"', 'format = "7E1"\nmode = "ascii"')],
        "bus[cellar].meter[feeder].format",
        ["'7E1'", "one of 8N1, 8N2, 8E1"],
    ),
}
