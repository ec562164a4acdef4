"""Watch a run: a line for each step that ends, a bar or a line now and then for the running one."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from tesserec.cli.output import Output

LINE_EVERY_S = 30.0  # where there is no terminal to draw a bar on
COLUMNS = (
    SpinnerColumn(),
    TextColumn("{task.description}"),
    BarColumn(),
    TextColumn("{task.fields[state]}"),
)


def watch(process: subprocess.Popen[bytes], folder: Path, out: Output) -> dict[str, dict[str, Any]]:
    """Show each step as it starts, moves on and ends; return the record of each ended step."""
    ended: dict[str, dict[str, Any]] = {}
    running, position, told = "", 0, time.monotonic()
    with Progress(*COLUMNS, console=out.errors, transient=True) as bar:
        task = bar.add_task("starting", total=None, state="")
        while True:
            finished = process.poll() is not None
            records, position = _new_records(folder / "steps.jsonl", position)
            for record in records:
                if record["event"] == "start":
                    running = record["step"]
                    bar.reset(task, total=None, description=running, state="")
                else:
                    ended[record["step"]] = record
                    out.note(step_line(record))
            state = _show_progress(bar, task, folder / "progress.json")
            if records:
                told = time.monotonic()
            elif state and not out.errors.is_terminal and time.monotonic() - told > LINE_EVERY_S:
                out.note(f"  {running:<14} {state}")
                told = time.monotonic()
            if finished:
                if running and running not in ended:
                    ended[running] = _killed(running)
                return ended
            time.sleep(0.1)


def step_line(record: dict[str, Any]) -> str:
    """One line of an ended step: how long, or that it was there; what it made; what it refused."""
    if record.get("error"):
        return f"  {record['step']:<14} failed after {record['seconds']:.1f} s"
    where = record["artifact"]["id"] if record["artifact"] else ""
    state = "already done" if record["reused"] else f"{record['seconds']:.1f} s"
    return f"  {record['step']:<14} {state:>12}  {where}{_refused(record)}{_skipped(record)}"


def _refused(record: dict[str, Any]) -> str:
    """Rows that ingest put aside or repaired; the report has the reasons."""
    if record["step"] != "ingest" or not record["artifact"]:
        return ""
    path = Path(record["artifact"]["uri"]) / "counts.json"
    counts = json.loads(path.read_text()) if path.is_file() else {}
    said = [
        f"{rows:,} {word}"
        for name, word in (("quarantined", "rows put aside"), ("repaired", "cells repaired"))
        if (rows := sum(sum(t.values()) for t in counts.get(name, {}).values()))
    ]
    return f"  ({', '.join(said)}: see the report)" if said else ""


def _skipped(record: dict[str, Any]) -> str:
    """Why the step had nothing to do for this model."""
    path = Path(record["artifact"]["uri"] if record["artifact"] else "") / "skipped.json"
    return f"  (skipped: {json.loads(path.read_text())['reason']})" if path.is_file() else ""


def _killed(step: str) -> dict[str, Any]:
    """The record of a step that wrote none at its end."""
    error = "its process was killed; was there memory enough?"
    record = {"step": step, "artifact": None, "reused": False, "seconds": 0.0}
    return record | {"error": error, "error_type": "killed"}


def _new_records(path: Path, position: int) -> tuple[list[dict[str, Any]], int]:
    """The whole lines written behind `position`, and where the next ones will begin."""
    if not path.exists():
        return [], position
    with path.open("rb") as handle:
        handle.seek(position)
        text = handle.read()
    whole = text[: text.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines()], position + len(whole)


def _show_progress(bar: Progress, task: TaskID, path: Path) -> str:
    """Draw what the step last said of itself, and return it in words; empty if it says nothing."""
    try:
        state = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        return ""
    words = in_words(state)
    bar.update(task, completed=state["done"], total=state["total"], state=words)
    return words


def in_words(state: dict[str, Any]) -> str:
    """`sasrec · epoch 3/20 · loss 5.21 · 700 rows/s · 4 min left`, as far as the step says so."""
    words = [state["part"]] if state.get("part") else []
    if "epoch" in state:
        words.append(f"epoch {state['epoch']}/{state.get('epochs', '?')}")
    if "loss" in state:
        words.append(f"loss {state['loss']:.3f}")
    if "rows_per_s" in state:
        words.append(f"{state['rows_per_s']:.0f} rows/s")
    if "seconds_left" in state:
        left = state["seconds_left"]
        words.append(f"{left / 60:.0f} min left" if left >= 90 else f"{left:.0f} s left")
    return " · ".join(words) or f"{state['done']:.0f} of {state['total']:.0f}"
