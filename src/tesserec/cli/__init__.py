"""The command line: `tesserec COMMAND`."""

from tesserec.cli.main import main

__all__ = ["main"]
