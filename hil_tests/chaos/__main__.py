"""python -m hil_tests.chaos."""

import sys

from hil_tests.chaos.run import main

sys.exit(main())
