"""Temporal replay: what each policy of codes and each update of the model is worth, block by block.

A policy's table and a model stand at the end of a block, having seen nothing later, and rank the
events of the next one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tesserec.artifacts import Artifact, write_atomic
from tesserec.config import RunConfig
from tesserec.errors import UsageError
from tesserec.retokenization.churn import Churn
from tesserec.retokenization.replay_blocks import read_timeline
from tesserec.retokenization.replay_cells import Bench, Codes
from tesserec.retokenization.replay_models import UPDATES, model_of, read_model
from tesserec.retokenization.replay_scores import BASELINES, Test, score_baseline, score_model
from tesserec.retokenization.replay_tables import POLICIES, churn_of, table_of
from tesserec.training.loop import OnProgress

CASES = 5000  # events of a block that are asked
ALL = (*POLICIES, "retrain")


@dataclass(frozen=True)
class Cell:
    """A row of the table: what stands at the end of a block, to be tested on the next."""

    block: int
    policy: str
    update: str


def plan(blocks: int, policies: Sequence[str], updates: Sequence[str]) -> list[Cell]:
    """The cells of a replay in the order in which they are made.

    At the end of the base all policies are one; `retrain` is a policy and its own update.

    Raises:
        UsageError: an unknown policy or update.
    """
    for what, names, known in (("policy", policies, ALL), ("update", updates, UPDATES)):
        for name in names:
            if name not in known:
                raise UsageError(f"there is no {what} {name!r}; choose of {', '.join(known)}")
    cells = [Cell(block, name, "none") for block in range(blocks) for name in BASELINES]
    cells += [Cell(0, "base", "retrain")]
    for block in range(1, blocks):
        for policy in policies:
            own = ("retrain",) if policy == "retrain" else [u for u in updates if u != "retrain"]
            cells += [Cell(block, policy, update) for update in own]
    return cells


def replay(
    workdir: Path,
    config: RunConfig,
    raw: Artifact,
    *,
    blocks: int = 4,
    policies: Sequence[str] = ALL,
    updates: Sequence[str] = UPDATES,
    cases: int = CASES,
    on_row: Callable[[int, int, Cell], None] | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[dict[str, Any]]:
    """The rows of the table, each as soon as it is known: block, policy, update, metrics, churn
    (share of old items whose codes changed, of their impressions, of their digits), and processor
    seconds.

    What was made before is taken from `workdir`.

    Raises:
        UsageError, DataError: names that are unknown, or data that can't be cut into blocks.
    """
    cells = plan(blocks, policies, updates)
    bench = Bench(workdir, config, raw, read_timeline(raw, blocks))
    tests: dict[int, Test] = {}
    for number, cell in enumerate(cells):
        if on_row:
            on_row(number, len(cells), cell)
        test = cell.block + 1
        if test not in tests:
            tests = {test: Test.of(bench, test, cases)} | tests
        if cell.policy in BASELINES:
            yield _baseline_row(bench, cell, tests[test], cases)
        else:
            yield _row(bench, cell, tests[test], cases, on_progress)


def _row(
    bench: Bench, cell: Cell, test: Test, cases: int, on_progress: OnProgress | None
) -> dict[str, Any]:
    table = table_of(bench, cell.policy, cell.block)
    model = model_of(bench, cell.policy, cell.update, cell.block, on_progress)

    def make(folder: Path) -> None:
        codes = Codes.read(bench, table)
        found = score_model(bench, test, codes, lambda codes: read_model(model, codes))
        write_atomic(folder / "metrics.json", json.dumps(found))

    part = bench.part("row", {"test": test.block, "cases": cases}, [table, model], make)
    trained = bench.seconds(model) if cell.update != "none" else 0.0
    return {
        **asdict(cell),
        **part.read_json("metrics.json"),
        **_churn(churn_of(bench, cell.policy, cell.block)),
        "seconds": round(bench.seconds(table) + trained, 2),
    }


def _baseline_row(bench: Bench, cell: Cell, test: Test, cases: int) -> dict[str, Any]:
    params = {"test": test.block, "cases": cases, "baseline": cell.policy}

    def make(folder: Path) -> None:
        found = score_baseline(bench, test, cell.policy)
        write_atomic(folder / "metrics.json", json.dumps(found))

    part = bench.part("row", params, [], make)
    return {
        **asdict(cell),
        **part.read_json("metrics.json"),
        **_churn(None),
        "seconds": round(bench.seconds(part), 2),
    }


def _churn(found: Churn | None) -> dict[str, float]:
    """None: no codes, no churn."""
    return {
        "churn": found.items if found else 0.0,
        "churn_impressions": found.impressions if found else 0.0,
        "churn_digits": found.digits if found else 0.0,
    }
