"""Which cadence is due, and why: evidence in, one word out (docs/retokenization.md has the table).

Drift has to be seen in two runs before anything moves; a codebook that maintaining could not mend
three times is rebuilt. What was before codes moved last doesn't count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

NONE, ENCODE, MAINTAIN, REBUILD = "none", "encode", "maintain", "rebuild"
DRIFT, HEALTH, EDITS, MODEL_AGE = "drift", "code_health", "edited_beyond_code", "model_age"
ENCODER, FAILED = "encoder_changed", "maintain_failed"
TWICE, THREE_TIMES = 2, 3


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `p` only of a test; `fires`: it asks for a cadence."""

    test: str
    effect: float
    fires: bool
    p: float | None = None
    null: float | None = None  # the effect that chance alone, or the limit, allows
    text: str = ""


@dataclass(frozen=True)
class Decision:
    due: str
    reasons: list[str] = field(default_factory=list)


def decide(
    findings: Sequence[Finding], waiting: int, history: Sequence[Mapping[str, Any]]
) -> Decision:
    """The cadence that is due.

    Args:
        findings: what was looked at in this run.
        waiting: items that are new, edited, gone, back, or due to leave quarantine.
        history: earlier runs, oldest first: {cadence, release_id, ok, fired}.
    """
    fired = {f.test: f for f in findings if f.fires}
    if ENCODER in fired:
        return Decision(REBUILD, [fired[ENCODER].text])
    recent = _since_codes_moved(history)
    # the same candidate, judged again without new events, is the same try
    refused = {run["release_id"] for run in recent if run["cadence"] == MAINTAIN}
    if len(refused) >= THREE_TIMES:
        return Decision(REBUILD, [f"maintain failed its gates {THREE_TIMES} times in a row"])
    reasons = [fired[name].text for name in (HEALTH, EDITS, MODEL_AGE) if name in fired]
    if DRIFT in fired:
        before = [run for run in recent if run["cadence"] == "decide"]
        if before and DRIFT in before[-1]["fired"]:
            reasons.append(f"{fired[DRIFT].text}, as in the run before")
    if reasons:
        return Decision(MAINTAIN, reasons)
    if waiting:
        return Decision(ENCODE, [f"{waiting:,} items wait"])
    return Decision(NONE)


def _since_codes_moved(history: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The runs behind the last `maintain` or `rebuild` that passed."""
    moved = [run["cadence"] in (MAINTAIN, REBUILD) and run["ok"] for run in history]
    last = max((place for place, yes in enumerate(moved, 1) if yes), default=0)
    return list(history[last:])
