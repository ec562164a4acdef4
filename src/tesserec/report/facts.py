"""What a run left behind; any piece may be missing, for failed runs have reports too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tesserec.artifacts import MANIFEST

# In the order of the pipeline, with the heading of the section that shows it.
STEPS = (
    "ingest",
    "gate_raw",
    "features",
    "gate_features",
    "feature_store",
    "encode",
    "tokenize",
    "gate_codes",
    "train",
    "evaluate",
    "gate_metrics",
    "build_release",
    "rehearse",
    "promote",
)
GATES = ("gate_raw", "gate_features", "gate_codes", "gate_metrics")


@dataclass(frozen=True)
class Step:
    """One line of the run's log: `state` is done, reused, failed, unfinished or not reached."""

    name: str
    state: str
    seconds: float | None = None
    error: str | None = None
    folder: Path | None = None  # of its artefact

    def json(self, name: str) -> Any:
        """A JSON file of the artefact; None if the step was not reached or has no such file."""
        return _json(self.folder / name) if self.folder else None

    def path(self, name: str) -> Path | None:
        found = self.folder / name if self.folder else None
        return found if found and found.exists() else None


@dataclass(frozen=True)
class Facts:
    """What is known of a run (or of a release)."""

    workdir: Path
    name: str
    steps: Mapping[str, Step]
    started: str | None = None
    config: Mapping[str, Any] | None = None
    release_id: str | None = None
    promoted: bool = False
    release: bool = False  # a release's report: no steps, no links to Data Docs
    notes: list[str] = field(default_factory=list)

    def step(self, name: str) -> Step:
        return self.steps.get(name) or Step(name, "not reached")

    @property
    def failed(self) -> Step | None:
        return next((s for s in self.steps.values() if s.state == "failed"), None)

    @property
    def seconds(self) -> float:
        return sum(s.seconds or 0.0 for s in self.steps.values())


def run_facts(workdir: Path, run_id: str) -> Facts:
    """What `reports/<run_id>/` names. A missing or torn file is noted, never an error."""
    folder = workdir / "reports" / run_id
    notes: list[str] = []
    run = _json(folder / "run.json")
    if not isinstance(run, Mapping):
        notes.append("run.json is missing or not readable, so the configuration is not shown")
        run = {}
    steps = _steps(folder / "steps.jsonl", workdir, notes)
    built = (steps["build_release"].json("release.json") or {}) if "build_release" in steps else {}
    return Facts(
        workdir=workdir,
        name=run_id,
        steps=steps,
        started=_date(run.get("started")),
        config=run.get("config"),
        release_id=built.get("release_id"),
        promoted="promote" in steps and steps["promote"].state in ("done", "reused"),
        notes=notes,
    )


def release_facts(workdir: Path, name: str, folders: Mapping[str, Path]) -> Facts:
    """The same of a release in the making: step -> folder of its finished artefact."""
    steps = {step: Step(step, "done", folder=folder) for step, folder in folders.items()}
    return Facts(workdir=workdir, name=name, steps=steps, release_id=name, release=True)


def _steps(path: Path, workdir: Path, notes: list[str]) -> dict[str, Step]:
    steps: dict[str, Step] = {}
    try:
        lines = path.read_text().splitlines()
    except OSError:
        notes.append("no step wrote into steps.jsonl")
        return steps
    for line in lines:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            notes.append(
                "steps.jsonl has a line that is not whole: a step was killed while writing"
            )
            continue
        name = str(record.get("step"))
        if record.get("event") == "start":
            steps[name] = Step(name, "unfinished")
        else:
            steps[name] = _step(name, record, workdir)
    return steps


def _step(name: str, record: Mapping[str, Any], workdir: Path) -> Step:
    state = "failed" if record.get("error") else "reused" if record.get("reused") else "done"
    return Step(
        name,
        state,
        seconds=record.get("seconds"),
        error=record.get("error"),
        folder=_folder(record.get("artifact"), workdir),
    )


def _folder(pointer: Mapping[str, Any] | None, workdir: Path) -> Path | None:
    """The artefact's folder; a workdir that was moved still has it below `artifacts/`."""
    if not pointer:
        return None
    for folder in (Path(str(pointer["uri"])), workdir / "artifacts" / str(pointer["id"])):
        if (folder / MANIFEST).is_file():
            return folder
    return None


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError, UnicodeDecodeError):
        return None


def _date(text: Any) -> str | None:
    """`20261122-143200` or ISO 8601, as `2026-11-22 14:32 UTC`."""
    if not text:
        return None
    for read in (
        lambda t: datetime.strptime(t, "%Y%m%d-%H%M%S").replace(tzinfo=UTC),
        datetime.fromisoformat,
    ):
        try:
            return read(str(text)).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
        except ValueError:
            continue
    return str(text)
