"""Days in seconds: the agent's and the receiver's logic under a clock that jumps.

Owns the loop, the host's clock, the buses, the network and the plan of what goes wrong. Everything
is drawn from one seed, so a failure repeats: `python -m hil_tests.virtual --seed N --days 30`.
"""
