"""Mistakes in a site file: what is changed, the key that is named, what must be said besides."""

SECOND_METER = """[[bus.meter]]
name = "workshop"
unit = 2
profile = "eastron-sdm630"
period = "2s"
tier = 2
parent = "incomer"
"""
WAYS_OUT = (
    "at least 57600 Bd",
    "periods 1s instead of 200ms",
    "9 instead of up to 19 points per meter",
)

MISTAKES = {
    "a misspelt key": (
        [('format = "8E1"', 'fromat = "8E1"')],
        "bus[switchroom].fromat",
        ["unknown key", "did you mean 'format'?", "turnaround_ms"],
    ),
    "an unknown table": (
        [("[state]", "[mqtt]\n[state]")],
        "mqtt",
        ["unknown key", "destination", "windows"],
    ),
    "a key of another table": (
        [("unit = 1", 'unit = 1\nbroker = "mqtt://b"')],
        "bus[switchroom].meter[incomer].broker",
        ["unknown key", "allowed: ", "sub_item"],
    ),
    "a missing table": (
        [('[state]\ndirectory = "DIRECTORY/state"\n', "")],
        "state",
        ["missing", "a table"],
    ),
    "a missing key": (
        [("unit = 1\n", "")],
        "bus[switchroom].meter[incomer].unit",
        ["missing", "1 to 247"],
    ),
    "no destination": (
        [('[[destination]]\nname = "platform"\nbroker = "mqtt://127.0.0.1:1883"\n', "")],
        "destination",
        ["missing", "at least one [[destination]]"],
    ),
    "a bus without meters": (
        [(SECOND_METER, SECOND_METER + '[[bus]]\nname = "empty"\ntcp = "h"\n')],
        "bus[empty].meter",
        ["missing", "at least one [[bus.meter]]"],
    ),
    "an unknown profile": (
        [('profile = "eastron-sdm630"', 'profile = "eastron-sdm63"')],
        "bus[switchroom].meter[incomer].profile",
        ["no profile 'eastron-sdm63'", "did you mean 'eastron-sdm630'?", "acrel-adl400"],
    ),
    "an unknown point": (
        [("tier = 1", 'tier = 1\npoints = ["voltage_l4"]')],
        "bus[switchroom].meter[incomer].points",
        ["eastron-sdm630 has no point 'voltage_l4'", "did you mean 'voltage_l"],
    ),
    "no points": (
        [("tier = 1", "tier = 1\npoints = []")],
        "bus[switchroom].meter[incomer].points",
        ["none", "at least one", "voltage_l1"],
    ),
    "a unit id twice on a bus": (
        [("unit = 2", "unit = 1")],
        "bus[switchroom].meter[workshop].unit",
        ["1 is the unit of meter incomer already", "a unit id of its own for every meter of a bus"],
    ),
    "the broadcast address": (
        [("unit = 1", "unit = 0")],
        "bus[switchroom].meter[incomer].unit",
        ["0", "a whole number from 1 to 247"],
    ),
    "a port twice": (
        [('tcp = "127.0.0.1:502"', 'port = "/dev/none-a"\nbaud = 9600')],
        "bus[roof].port",
        ["/dev/none-a is the port of bus switchroom already", "one bus for each port"],
    ),
    "both port and tcp": (
        [('tcp = "127.0.0.1:502"', 'tcp = "127.0.0.1:502"\nport = "/dev/b"')],
        "bus[roof].port",
        ["both port and tcp", "one of them"],
    ),
    "neither port nor tcp": (
        [('tcp = "127.0.0.1:502"\n', "")],
        "bus[roof].port",
        ["neither port, tcp, rtu_tcp", "one of them"],
    ),
    "both kinds of connection": (
        [('tcp = "127.0.0.1:502"', 'tcp = "127.0.0.1:502"\nrtu_tcp = "127.0.0.1"')],
        "bus[roof].port",
        ["both tcp and rtu_tcp", "one of them"],
    ),
    "a speed on a tcp bus": (
        [('tcp = "127.0.0.1:502"', 'tcp = "127.0.0.1:502"\nbaud = 9600')],
        "bus[roof].baud",
        ["not a key of a tcp bus"],
    ),
    "Modbus ASCII on a tcp bus": (
        [('tcp = "127.0.0.1:502"', 'tcp = "127.0.0.1:502"\nmode = "ascii"')],
        "bus[roof].mode",
        ["not a key of a tcp bus"],
    ),
    "a mode that does not exist": (
        [("baud = 9600", 'baud = 9600\nmode = "ASCII"')],
        "bus[switchroom].mode",
        ["'ASCII'", "one of rtu, ascii"],
    ),
    "a meter's speed on a tcp bus": (
        [('profile = "sunspec-meter-213"', 'profile = "sunspec-meter-213"\nbaud = 9600')],
        "bus[roof].meter[pv].baud",
        ["not a key of a meter on a tcp bus"],
    ),
    "a meter's speed that no meter has": (
        [("unit = 2", "unit = 2\nbaud = 9500")],
        "bus[switchroom].meter[workshop].baud",
        ["9500", "one of 1200, 2400"],
    ),
    "a meter's format of seven bits": (
        [("unit = 2", 'unit = 2\nformat = "7E1"')],
        "bus[switchroom].meter[workshop].format",
        ["'7E1'", "one of 8N1, 8N2, 8E1"],
    ),
    "an address on a Modbus meter": (
        [("unit = 1", 'address = "000000000001"')],
        "bus[switchroom].meter[incomer].address",
        ["not a key of a Modbus meter", "unit, 1 to 247"],
    ),
    "a type on a Modbus meter": (
        [("unit = 1", "unit = 1\ntype = 0x10")],
        "bus[switchroom].meter[incomer].type",
        ["not a key of a Modbus meter"],
    ),
    "an edition on a Modbus meter": (
        [("unit = 1", 'unit = 1\nedition = "2018"')],
        "bus[switchroom].meter[incomer].edition",
        ["not a key of a Modbus meter"],
    ),
    "a meter named like the gateway's own": (
        [('name = "pv"', 'name = "gateway"')],
        "bus.meter[gateway].name",
        ["'gateway'", "the gateway's own measurements"],
    ),
    "a period of an unknown class": (
        [("tier = 1", 'tier = 1\nperiods = { energie = "60s" }')],
        "bus[switchroom].meter[incomer].periods.energie",
        ["unknown key", "did you mean 'energy'?"],
    ),
    "a period of a point that is not read": (
        [("tier = 1", 'tier = 1\npoints = ["voltage_l1"]\nperiods = { voltage_l2 = "60s" }')],
        "bus[switchroom].meter[incomer].periods.voltage_l2",
        ["unknown key", "did you mean 'voltage_l1'?"],
    ),
    "a class's period that no day is a multiple of": (
        [("tier = 1", 'tier = 1\nperiods = { energy = "7s" }')],
        "bus[switchroom].meter[incomer].periods.energy",
        ["'7s'", "a whole number of times a day"],
    ),
    "metrics on no port": (
        [("[status]", '[status]\nmetrics = "127.0.0.1:0"')],
        "status.metrics",
        ["'127.0.0.1:0'", "HOST or HOST:PORT"],
    ),
    "a baud rate that no meter has": (
        [("baud = 9600", "baud = 9601")],
        "bus[switchroom].baud",
        ["9601", "one of 1200, 2400, 4800, 9600, 19200"],
    ),
    "a baud rate as text": (
        [("baud = 9600", 'baud = "9600"')],
        "bus[switchroom].baud",
        ["'9600'", "a whole number"],
    ),
    "a format of seven bits": (
        [('"8E1"', '"7E1"')],
        "bus[switchroom].format",
        ["'7E1'", "one of 8N1, 8N2, 8E1"],
    ),
    "a port that is no number": (
        [("127.0.0.1:502", "127.0.0.1:modbus")],
        "bus[roof].tcp",
        ["'127.0.0.1:modbus'", "HOST or HOST:PORT"],
    ),
    "a period without unit": (
        [('period = "2s"', 'period = "2"')],
        "bus[switchroom].meter[incomer].period",
        ["'2'", "a duration such as 500ms, 10s, 15min, 1h"],
    ),
    "a period as a number": (
        [('period = "2s"', "period = 2")],
        "bus[switchroom].meter[incomer].period",
        ["2; text"],
    ),
    "a period of no time": (
        [('period = "2s"', 'period = "0s"')],
        "bus[switchroom].meter[incomer].period",
        ["'0s'", "a duration such as"],
    ),
    "a period too short": (
        [('period = "2s"', 'period = "100ms"')],
        "bus[switchroom].meter[incomer].period",
        ["'100ms'", "200ms to 24h"],
    ),
    "a period that no day is a multiple of": (
        [('period = "2s"', 'period = "7s"')],
        "bus[switchroom].meter[incomer].period",
        ["'7s'", "a whole number of times a day"],
    ),
    "a window that no day is a multiple of": (
        [("[status]", '[windows]\nlengths = ["1min", "7min"]\n[status]')],
        "windows.lengths",
        ["'7min'", "1s to 24h, a whole number of times a day"],
    ),
    "a window that is no duration": (
        [("[status]", '[windows]\nlengths = ["quarter"]\n[status]')],
        "windows.lengths",
        ["'quarter'", "1s to 24h"],
    ),
    "a flush that is no duration": (
        [("[status]", '[batch]\nflush = "often"\n[status]')],
        "batch.flush",
        ["'often'", "500ms, 10s, 15min, 1h"],
    ),
    "too little room": (
        [('state"\n', 'state"\nbytes_max = "10MB"\n')],
        "state.bytes_max",
        ["'10MB'", "from 32MB up"],
    ),
    "batches that are let go at once": (
        [('state"\n', 'state"\nresend_days = 0\n')],
        "state.resend_days",
        ["0", "a whole number from 1 to 366"],
    ),
    "history that is never kept": (
        [('state"\n', 'state"\nhistory_days = "all"\n')],
        "state.history_days",
        ["'all'", "a whole number from 1 to 36500"],
    ),
    "an unknown parent": (
        [('parent = "incomer"', 'parent = "incomr"')],
        "bus.meter[workshop].parent",
        ["no meter 'incomr'", "did you mean 'incomer'?"],
    ),
    "a parent of a higher tier": (
        [("tier = 1", "tier = 3")],
        "bus.meter[workshop].parent",
        ["incomer is of tier 3, workshop of tier 2", "a parent of a lower tier"],
    ),
    "a meter as its own parent": (
        [('parent = "incomer"', 'parent = "workshop"')],
        "bus.meter[workshop].parent",
        ["workshop is of tier 2, workshop of tier 2"],
    ),
    "a tier that does not exist": (
        [("tier = 1", "tier = 4")],
        "bus[switchroom].meter[incomer].tier",
        ["4", "1 to 3"],
    ),
    "a meter's name on two buses": (
        [('name = "pv"', 'name = "incomer"')],
        "bus.meter.name",
        ["'incomer' stands twice", "each name once"],
    ),
    "a bus's name twice": (
        [('name = "roof"', 'name = "switchroom"')],
        "bus.name",
        ["'switchroom' stands twice"],
    ),
    "a destination's name twice": (
        [("[[bus]]", '[[destination]]\nname = "platform"\nbroker = "mqtt://b"\n[[bus]]')],
        "destination.name",
        ["'platform' stands twice"],
    ),
    "a name in capitals": (
        [('name = "roof"', 'name = "Roof 1"')],
        "bus[Roof 1].name",
        ["'Roof 1'", "1 to 32 of a-z, 0-9, _ and -"],
    ),
    "a gateway name with a dot": (
        [('"qp-0001"', '"qp.0001"')],
        "site.gateway",
        ["'qp.0001'", "for example qp-0001"],
    ),
    "a site name of two lines": (
        [('"Example plant"', '"Example\\nplant"')],
        "site.name",
        ["on one line"],
    ),
    "a password that cannot be read": (
        [('1883"', '1883"\npassword_file = "DIRECTORY/secret"')],
        "destination[platform].password_file",
        ["cannot read", "/secret", "a file the agent may read"],
    ),
    "a platform key that is none": (
        [('1883"', '1883"\nplatform_keys = ["ed25519:AAAA"]')],
        "destination[platform].platform_keys",
        ["32 bytes", "keys as `edgeagg receive` prints its own"],
    ),
    "a broker without a scheme": (
        [('"mqtt://127.0.0.1:1883"', '"127.0.0.1:1883"')],
        "destination[platform].broker",
        ["'127.0.0.1:1883'", "mqtt://HOST:PORT or mqtts://"],
    ),
    "a broker port that is no number": (
        [("127.0.0.1:1883", "127.0.0.1:mqtt")],
        "destination[platform].broker",
        ["mqtt://HOST:PORT"],
    ),
    "a broker address cut short": (
        [("127.0.0.1:1883", "[::1")],
        "destination[platform].broker",
        ["mqtt://HOST:PORT"],
    ),
    "a password in the address": (
        [("127.0.0.1:1883", "user:secret@127.0.0.1:1883")],
        "destination[platform].broker",
        ["mqtt://HOST:PORT", "username"],
    ),
    "a profiles folder that is not there": (
        [('name = "Example plant"', 'name = "Example plant"\nprofiles = ["mine"]')],
        "site.profiles",
        ["no folder", "/mine"],
    ),
    "periods that the bus has no time for": (
        [('period = "2s"', 'period = "200ms"')] * 2,
        "bus[switchroom].meter.period",
        ["% of the bus's time", "95% is the most", *WAYS_OUT],
    ),
    "broken TOML": ([("[site]", "[site")], "file", ["line 2", "a readable TOML file in UTF-8"]),
    "a power without a unit": (
        [("tier = 1", 'tier = 1\npower_max = "400"')],
        "bus[switchroom].meter[incomer].power_max",
        ["'400'", 'a power such as "400 kW"'],
    ),
    "a power of nothing": (
        [("tier = 1", 'tier = 1\npower_max = "0 kW"')],
        "bus[switchroom].meter[incomer].power_max",
        ["'0 kW'", '"2.5 MW"'],
    ),
    "a power of a meter whose energy is not read": (
        [("tier = 1", 'tier = 1\npoints = ["voltage_l1"]\npower_max = "400 kW"')],
        "bus[switchroom].meter[incomer].power_max",
        ["no energy register is read"],
    ),
    "a flow of an electricity meter": (
        [("tier = 1", 'tier = 1\nflow_max = "25 m3/h"')],
        "bus[switchroom].meter[incomer].flow_max",
        ["no volume register is read"],
    ),
    "a flow in another unit": (
        [("tier = 1", 'tier = 1\nflow_max = "25 l/s"')],
        "bus[switchroom].meter[incomer].flow_max",
        ["'25 l/s'", 'a flow such as "25 m3/h"'],
    ),
    "statistics of a point that is not read": (
        [("tier = 1", 'tier = 1\npoints = ["voltage_l1"]\nstatistics = ["voltage_l2"]')],
        "bus[switchroom].meter[incomer].statistics",
        ["no point 'voltage_l2' is read", "did you mean 'voltage_l1'?"],
    ),
    "a demand of no point": (
        [("tier = 1", 'tier = 1\ndemand = { period = "15min" }')],
        "bus[switchroom].meter[incomer].demand.points",
        ["none", "the points whose demand is taken"],
    ),
    "a demand of a point that is not read": (
        [("tier = 1", 'tier = 1\ndemand = { points = ["active_energy_imprt"] }')],
        "bus[switchroom].meter[incomer].demand.points",
        ["no point 'active_energy_imprt' is read", "did you mean 'active_energy_import'?"],
    ),
    "a demand over a period that no utility bills": (
        [
            (
                "tier = 1",
                'tier = 1\ndemand = { points = ["active_energy_import"], period = "20min" }',
            )
        ],
        "bus[switchroom].meter[incomer].demand.period",
        ["'20min'", "15min, 30min or 1h"],
    ),
    "a demand that slips past its period": (
        [("tier = 1", 'tier = 1\ndemand = { points = ["active_energy_import"], slip = "4min" }')],
        "bus[switchroom].meter[incomer].demand.slip",
        ["'4min'", "whole minutes that the period is a multiple of"],
    ),
    "a time zone that does not exist": (
        [('name = "Example plant"', 'name = "Example plant"\ntime_zone = "Asia/Shanghi"')],
        "site.time_zone",
        ["unknown time zone 'Asia/Shanghi'", "such as Asia/Shanghai"],
    ),
    "a demand that slips faster than its point is read": (
        [
            ("tier = 1", 'tier = 1\nperiods = { energy = "15min" }'),
            ("tier = 1\n", 'tier = 1\ndemand = { points = ["active_energy_import"] }\n'),
        ],
        "bus[switchroom].meter[incomer].demand.slip",
        ["active_energy_import is read every 900 s", "a slip of that or more"],
    ),
}
