"""How fast the agent reads a line, and what that costs: `python -m hil_tests.speed`."""
