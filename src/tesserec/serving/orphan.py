"""Server and stub end together: Triton's stub outlives a server that is killed while it loads a
model, and a server whose stub is gone says that it is ready, and fails every request."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

STUB, SERVER = "triton_python", "tritonserver"
EVERY_S = 0.5


def die_with_server() -> None:
    """In a stub: end this process as soon as its server is gone, also if it is gone already.

    The kernel's parent-death signal is of no use: it goes by the *thread* that started the stub,
    and Triton's loading threads end. In any other process than a stub nothing happens.
    """
    if not _name(os.getpid()).startswith(STUB):
        return
    server = os.getppid()
    if not _name(server).startswith(SERVER):
        os._exit(1)

    def wait() -> None:
        while os.getppid() == server:
            time.sleep(EVERY_S)
        os._exit(1)

    threading.Thread(target=wait, daemon=True, name="die-with-server").start()


def dead_stubs(server: int) -> list[int]:
    """Stubs of a running server that have ended; it never starts them again."""
    found = []
    for children in Path(f"/proc/{server}/task").glob("*/children"):
        try:
            found += [int(child) for child in children.read_text().split()]
        except OSError:  # the thread has ended meanwhile
            continue
    return [pid for pid in found if _name(pid).startswith(STUB) and _state(pid) == "Z"]


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
