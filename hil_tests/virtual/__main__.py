"""Lets `python -m hil_tests.virtual` run the command."""

import sys

from hil_tests.virtual.run import main

sys.exit(main())
