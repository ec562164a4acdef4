"""The table of decisions (docs/retokenization.md), row by row."""

from __future__ import annotations

from typing import Any

import pytest

from tesserec.retokenization.decision import (
    DRIFT,
    EDITS,
    ENCODER,
    HEALTH,
    MODEL_AGE,
    Finding,
    decide,
)


def fires(test: str) -> Finding:
    return Finding(test, 1.0, True, text=f"{test} it is")


def ran(cadence: str, *fired: str, ok: bool = True, release: str = "r1") -> dict[str, Any]:
    return {"cadence": cadence, "release_id": release, "ok": ok, "fired": list(fired)}


QUIET = [Finding(name, 0.0, False) for name in (DRIFT, HEALTH, EDITS, MODEL_AGE, ENCODER)]
REFUSED = [ran("maintain", ok=False, release=f"r{n}") for n in range(3)]
DRIFTED = ran("decide", DRIFT)


@pytest.mark.parametrize(
    ("findings", "waiting", "history", "due"),
    [
        ([], 0, [], "none"),
        (QUIET, 0, [ran("decide"), ran("encode")], "none"),
        (QUIET, 7, [], "encode"),
        ([fires(DRIFT)], 0, [], "none"),  # once is chance
        ([fires(DRIFT)], 7, [], "encode"),
        ([fires(DRIFT)], 0, [DRIFTED], "maintain"),
        ([fires(DRIFT)], 0, [DRIFTED, ran("encode")], "maintain"),
        ([fires(DRIFT)], 0, [DRIFTED, ran("decide")], "none"),  # and vanished in between
        ([fires(DRIFT)], 0, [DRIFTED, ran("maintain")], "none"),  # from before codes moved
        ([fires(DRIFT)], 0, [DRIFTED, ran("maintain", ok=False)], "maintain"),
        (QUIET, 0, [DRIFTED], "none"),
        ([fires(HEALTH)], 7, [], "maintain"),
        ([fires(EDITS)], 0, [], "maintain"),
        ([fires(MODEL_AGE)], 0, [], "maintain"),
        ([fires(ENCODER)], 7, [], "rebuild"),
        ([fires(ENCODER), fires(HEALTH)], 0, [], "rebuild"),
        (QUIET, 0, REFUSED[:2], "none"),
        (QUIET, 0, REFUSED, "rebuild"),
        ([fires(HEALTH)], 7, [*REFUSED, ran("decide"), ran("encode", ok=False)], "rebuild"),
        (QUIET, 0, [*REFUSED[:2], ran("maintain"), REFUSED[2]], "none"),  # not in a row
        (QUIET, 0, [*REFUSED, ran("rebuild")], "none"),  # that is what they called for
        (QUIET, 0, [*REFUSED, ran("rebuild", ok=False)], "rebuild"),
        (QUIET, 0, [REFUSED[0], ran("decide")] * 3, "none"),  # one candidate, judged three times
    ],
)
def test_what_is_due(
    findings: list[Finding], waiting: int, history: list[dict[str, Any]], due: str
) -> None:
    assert decide(findings, waiting, history).due == due


def test_every_reason_is_told() -> None:
    told = decide([fires(HEALTH), fires(EDITS), fires(DRIFT)], 1, [DRIFTED])
    assert told.reasons == [
        f"{HEALTH} it is",
        f"{EDITS} it is",
        "drift it is, as in the run before",
    ]
    assert decide([], 1234, []).reasons == ["1,234 items wait"]
    assert decide([fires(ENCODER)], 0, []).reasons == ["encoder_changed it is"]
    assert decide([], 0, REFUSED).reasons == ["maintain failed its gates 3 times in a row"]
