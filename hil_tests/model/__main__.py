"""Lets `python -m hil_tests.model` run the command."""

import sys

from hil_tests.model.run import main

sys.exit(main())
