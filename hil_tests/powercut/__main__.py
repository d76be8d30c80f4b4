"""Lets `python -m hil_tests.powercut` run the command."""

import sys

from hil_tests.powercut.run import main

sys.exit(main())
