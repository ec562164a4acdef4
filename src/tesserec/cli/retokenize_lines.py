"""What the steps of a re-tokenization tell on the terminal: one line each, when they end."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from tesserec.artifacts import Artifact
from tesserec.cli.output import Output
from tesserec.steps.runner import recorded

LINES = {
    "new_items": "new",
    "quarantined": "in quarantine",
    "activated": "out of quarantine",
    "edited": "edited",
    "moved_content": "edited beyond their code (the next maintain moves them)",
    "retired": "retired",
    "relisted": "listed again",
    "kept_apart": "kept apart from a retired item's code",
}


class Clock:
    """Seconds by step, a line for each step that ends, and its record in the run's folder."""

    def __init__(self, out: Output, folder: Path) -> None:
        self._out = out
        self._folder = folder
        self.seconds: dict[str, float] = {}

    def __call__(
        self, name: str, work: Callable[[], Artifact], told: Callable[[Artifact], str]
    ) -> Artifact:
        began = time.monotonic()
        with (
            self._out.errors.status(name) if self._out.errors.is_terminal else nullcontext(),
            recorded(self._folder, name) as record,
        ):
            made = work()
            record(made)
        seconds = self.seconds.get(name, 0.0) + time.monotonic() - began
        self.seconds[name] = round(seconds, 2)
        self._out.note(f"  {name:<13} {self.seconds[name]:6.1f} s  {told(made)}")
        return made

    def note(self, text: str) -> None:
        self._out.note(f"  note: {text}")


def name(artifact: Artifact) -> str:
    return artifact.path.name


def surveyed(artifact: Artifact) -> str:
    told = artifact.read_json("summary.json")
    refused = "".join(f"; {n:,} refused: {reason}" for reason, n in told["refused"].items())
    canary = f"canary set of {told['canary']:,} as it was" if told["canary"] else "no canary set"
    rows = f"{told['read']:,} rows: {told['new']:,} new, {told['changed']:,} changed"
    return f"{rows} ({told['edited']:,} edited){refused}; {canary}"


def extended(artifact: Artifact) -> str:
    told = artifact.read_json("change.json")
    counts = [
        f"{told['counts'][key]:,} {text}" for key, text in LINES.items() if told["counts"][key]
    ]
    return f"{told['release_id'] or 'no release needed'}: {', '.join(counts) or 'nothing new'}"


def maintained(artifact: Artifact) -> str:
    told = artifact.read_json("change.json")
    counts, tuning = told["counts"], told["tuning"]
    return (
        f"{told['release_id']}: {counts['moved']:,} items moved, {counts['splits']} codes split, "
        f"{counts['revived']} revived; tuned on {tuning['targets']:,} events"
    )


def handed(artifact: Artifact) -> str:
    told = artifact.read_json("handover.json")
    if not told["promoted"]:
        return "nothing to promote"
    served = f"served after {told['seconds']['reach']:.1f} s" if told["served"] else "no server"
    return f"rehearsed with {told['histories']} histories, promoted, {served}"


def say(report: str | None, out: Output) -> None:
    if report:
        out.line(f"report: {report}")
