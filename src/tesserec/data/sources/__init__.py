"""Where data come from; one source, one file."""

from tesserec.data.sources.generated import Generated
from tesserec.data.sources.tesserec import Tesserec

SOURCES = {"generated": Generated, "tesserec": Tesserec}

__all__ = ["SOURCES", "Generated", "Tesserec"]
