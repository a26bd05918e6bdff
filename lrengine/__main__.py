"""`python -m lrengine` is the `lrengine` command."""

import sys

from lrengine.cli import main

sys.exit(main())
