"""Logs of servers in `<workdir>/serving/`: one a start, the last ones are kept."""

from __future__ import annotations

import os
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

from tesserec.errors import ServingError
from tesserec.serving.server_file import read_server_file

KEEP_LOGS = 10
SHARED = Path("/dev/shm")
TAIL_LINES = 15
TAIL_WIDTH = 300
# How the log tells what model.py raised in `initialize`.
CAUSE = re.compile(r"Failed to initialize Python stub: (?:\w+: )?(.*?)(?:\\n\\nAt:|\"?$)", re.M)


def new_log(workdir: Path) -> Path:
    """The path of a new log; old ones and what belongs to them are deleted."""
    folder = workdir / "serving"
    folder.mkdir(parents=True, exist_ok=True)
    for old in sorted(folder.glob("triton-*.log"))[: -KEEP_LOGS + 1]:
        if str(old) != _log_in_use(workdir):  # rehearsals beside a long-lived server make many
            shutil.rmtree(models_beside(old), ignore_errors=True)
            old.unlink(missing_ok=True)
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    return folder / f"triton-{now}-{os.getpid()}.log"


def models_beside(log_path: Path) -> Path:
    """The folder of the model repository of the server that writes this log."""
    return log_path.with_name(log_path.stem.replace("triton", "models", 1))


def shared_memory_of(log_path: Path) -> str:
    """How the names in /dev/shm begin that this server and its model share."""
    return f"triton_python_backend_{log_path.stem}_"


def drop_shared_memory(log_path: Path) -> None:
    """Delete what a killed server left in /dev/shm."""
    for left in SHARED.glob(f"{shared_memory_of(log_path)}*"):
        left.unlink(missing_ok=True)


def text_of(log_path: Path) -> str:
    return log_path.read_text(errors="replace") if log_path.is_file() else ""


def with_tail(message: str, log_path: Path) -> str:
    """The message, the model's own error if the log has one, and the log's last lines."""
    text = text_of(log_path)
    causes = CAUSE.findall(text)
    cause = f": {causes[-1]}" if causes else ""
    lines = [line[:TAIL_WIDTH] for line in text.splitlines() if line.strip(" |+-\t")]
    tail = "\n  ".join(lines[-TAIL_LINES:])
    return f"{message}{cause}\nthe log {log_path} ends with:\n  {tail}"


def _log_in_use(workdir: Path) -> str | None:
    """The log of the server that runs for this folder."""
    try:
        return read_server_file(workdir)["log"]
    except ServingError:
        return None
