"""`<workdir>/serving/server.json`: where the server of a working folder is."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tesserec.artifacts import write_atomic
from tesserec.errors import ServingError


def server_file(workdir: Path) -> Path:
    return workdir / "serving" / "server.json"


def write_server_file(workdir: Path, info: Mapping[str, Any]) -> None:
    write_atomic(server_file(workdir), json.dumps(dict(info), indent=1))


def read_server_file(workdir: Path) -> dict[str, Any]:
    """The running server (keys: `TritonProcess.info`); pid is null if remote.

    One that has died and is being started again by its supervisor counts: its address stays.

    Raises:
        ServingError: no server was started for this folder, or it is gone.
    """
    path = server_file(workdir)
    hint = f"start one with: tesserec serve --workdir {workdir}"
    try:
        info = json.loads(path.read_text())
    except FileNotFoundError:
        raise ServingError(f"no server runs for {workdir}; {hint}") from None
    except json.JSONDecodeError as error:
        raise ServingError(f"{path} is not JSON ({error}); {hint}") from None
    if info["pid"] is not None and not (alive(info["pid"]) or _supervised(info)):
        raise ServingError(f"the server of {workdir} (process {info['pid']}) is gone; {hint}")
    return info


def remove_server_file(workdir: Path, pid: int | None) -> None:
    """Remove the file if it still names this server."""
    path = server_file(workdir)
    try:
        if json.loads(path.read_text())["pid"] == pid:
            path.unlink()
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        return


def _supervised(info: Mapping[str, Any]) -> bool:
    supervisor = info.get("supervisor")
    return supervisor is not None and alive(supervisor, b"tesserec")


def alive(pid: int, name: bytes = b"tritonserver") -> bool:
    """Whether this pid is such a program (a pid may have gone to another one)."""
    try:
        return name in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return False
    try:  # no /proc on this system
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
