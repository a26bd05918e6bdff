"""Lets every test say `from tiny import tiny_swcm` and `from reference import ...` wherever pytest was started."""

import signal
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

# A shell starts its background jobs with Ctrl-C ignored, and Python leaves that as it finds it; tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)
