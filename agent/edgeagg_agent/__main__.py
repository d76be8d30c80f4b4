"""python -m edgeagg_agent."""

import sys

from edgeagg_agent.cli import main

sys.exit(main())
