"""python -m edgeagg."""

import sys

from edgeagg.cli import main

sys.exit(main())
