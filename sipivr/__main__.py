"""`python -m sipivr` is `sipivr`."""

import sys

from sipivr.cli import main

sys.exit(main())
