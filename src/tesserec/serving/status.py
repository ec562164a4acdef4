"""`<workdir>/serving/status.json`: what a server holds, what it refused and why, for operators."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tesserec.artifacts import write_atomic
from tesserec.errors import ServingError
from tesserec.release.pointer import now
from tesserec.serving import server_file


def status_file(workdir: Path) -> Path:
    return workdir / "serving" / "status.json"


def write_status(workdir: Path, status: Mapping[str, Any]) -> None:
    """Write what this process, whose parent is the server, has to tell of itself."""
    by = {"pid": os.getpid(), "server": os.getppid(), "at": now()}
    write_atomic(status_file(workdir), json.dumps({**by, **status}, indent=1))


def server_status(workdir: Path) -> dict[str, Any] | None:
    """What the running server holds; None without one.

    `{pid, server, at, serving, instead_of, second, loading, refused}`: `instead_of` is the promoted
    release if it is no good, `second` null or `{release_id, role, share, since, figures}`,
    `refused` a list of `{release_id, reason, at}`.
    """
    try:
        running = server_file.read_server_file(workdir)
        status = json.loads(status_file(workdir).read_text())
    except (ServingError, FileNotFoundError, json.JSONDecodeError):
        return None
    theirs = status["server"] == running["pid"] and server_file.alive(running["pid"])
    return status if theirs else None
