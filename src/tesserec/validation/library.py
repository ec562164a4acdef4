"""The one door to Great Expectations: its import takes 5 s, so nobody passes before a gate runs."""

from __future__ import annotations

import importlib
import logging
import os
from typing import Any

from tesserec.errors import need


def great_expectations(module: str = "") -> Any:
    """`great_expectations` or a module of it, without its analytics and its chatter.

    Raises:
        UsageError: it is not installed.
    """
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    # Importing it logs a hundred INFO lines of its own making; warnings still reach stderr.
    logging.getLogger("great_expectations").propagate = False
    try:
        return importlib.import_module(f"great_expectations{module}")
    except ModuleNotFoundError as error:
        raise need("great_expectations", "validate") from error
