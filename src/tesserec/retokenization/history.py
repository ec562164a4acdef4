"""`<workdir>/retokenization/history.jsonl`: what each run found and did, one line a run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def remember_outcome(workdir: Path, change: Mapping[str, Any], problem: str | None) -> None:
    """That a release was promoted, or refused and why: three refusals of `maintain` count.

    Args:
        change: `change.json` of the step that made the release.
    """
    line = {key: change[key] for key in ("cadence", "release_id", "parent")}
    remember(workdir, {**line, "ok": problem is None, "fired": [problem] if problem else []})


def history_file(workdir: Path) -> Path:
    return workdir / "retokenization" / "history.jsonl"


def remember(workdir: Path, line: Mapping[str, Any]) -> None:
    """Append one line, flushed to the disk; one that is there already is not written twice."""
    known = read_history(workdir)
    if known and known[-1] == line:
        return
    path = history_file(workdir)
    path.parent.mkdir(parents=True, exist_ok=True)
    torn = path.is_file() and path.stat().st_size and not path.read_bytes().endswith(b"\n")
    with path.open("a") as handle:
        handle.write(("\n" if torn else "") + json.dumps(line) + "\n")
        handle.flush()
        os.fsync(handle.fileno())


def read_history(workdir: Path) -> list[dict[str, Any]]:
    """All lines, oldest first; a line that a crash tore is passed over."""
    path = history_file(workdir)
    if not path.is_file():
        return []
    found = []
    for line in path.read_bytes().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:  # no JSON, or no text at all
            continue
    return found
