"""`python -m tesserec.cli`."""

import sys

from tesserec.cli.main import main

sys.exit(main())
