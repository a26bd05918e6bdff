"""Lets every test say `from tiny import tiny_swcm` and `from reference import ...` wherever pytest was started."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
