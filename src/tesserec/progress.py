"""Progress of a long step, as a small file that the command line reads to draw its bar."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

ENV = "TESSEREC_PROGRESS"  # the file; unset: nobody watches
_last = 0.0


def report(done: float, total: float, **fields: Any) -> None:
    """Say how far the running step is; at most twice a second, and never an error."""
    global _last
    target = os.environ.get(ENV)
    now = time.monotonic()
    if not target or (now - _last < 0.5 and done < total):
        return
    _last = now
    path = Path(target)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps({"done": done, "total": total, **fields}))
        os.replace(temporary, path)
    except OSError:  # a full disk must not stop a training because of its progress bar
        return
