"""pyarrow.compute as `pc`; its functions are made at import, so no type checker knows them."""

from __future__ import annotations

from typing import Any

import pyarrow.compute

pc: Any = pyarrow.compute
