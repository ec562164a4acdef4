"""tesserec: a production pipeline for generative recommendation with semantic IDs."""

from tesserec.errors import TesserecError

__all__ = ["TesserecError", "__version__"]
__version__ = "0.1.0"
