"""Step `judge`: may the release of a re-tokenization be promoted?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesserec.artifacts import Artifact, build, write_atomic
from tesserec.config import RunConfig, to_dict
from tesserec.errors import GateFailed

if TYPE_CHECKING:
    import numpy as np

    from tesserec.retokenization.stock import Stock

VERSION = 1


def run(
    workdir: Path, config: RunConfig, change: Artifact, features: Artifact | None = None
) -> Artifact:
    """Check table and ledger; of a moved table churn and health too; a tuned model beside the
    promoted one, on the last fifth of the newest block (`features`). The artefact holds
    `verdict.json`, `data_docs/` and, of a model, `comparison.json`. A refusal is remembered.

    Raises:
        GateFailed: the release may not be promoted, now or when the verdict was made.
    """
    from tesserec.retokenization.history import remember_outcome
    from tesserec.validation.verdict import Verdict, raise_if_failed

    told = change.read_json("change.json")

    def make(folder: Path) -> None:
        if told["release_id"] is None:
            Verdict("judge", True, (), 0, {}, {}).save(folder)
            return
        from tesserec.validation.gate import run_gate

        frames, settings = _tables(workdir, config, change, told)
        if features is not None:
            more, comparison = _models(workdir, config, told, features)
            frames |= more
            write_atomic(folder / "comparison.json", json.dumps(comparison, indent=1))
            settings["against_promoted"] = {"max_loss": config.gates.max_loss}
            settings["slices"] = {"max_slice_loss": config.gates.max_slice_loss}
        run_gate("judge", frames, folder, settings)

    params = {
        "gates": to_dict(config.gates),
        "budget": to_dict(config.retokenization.budget),
        "resamples": config.evaluation.bootstrap,
        "seed": config.seed,
    }
    parents = [change, *([features] if features is not None else [])]
    artifact, _ = build(
        workdir, "judgement", params=params, parents=parents, version=VERSION, make=make
    )
    try:
        return raise_if_failed(artifact)
    except GateFailed as error:
        remember_outcome(workdir, told, str(error))
        raise


def _stock(workdir: Path, release_id: str) -> Stock:
    from tesserec.release.manifest import read_release, release_folder
    from tesserec.retokenization.stock import Stock

    folder = release_folder(workdir, release_id)
    return Stock(folder, read_release(folder))


def _tables(
    workdir: Path, config: RunConfig, change: Artifact, told: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Frames of the ledger's new entries, of the items that they speak of, and of the churn."""
    import numpy as np
    import pandas as pd

    from tesserec.release.manifest import parts_of
    from tesserec.retokenization import life
    from tesserec.retokenization.ledger import read_ledger

    stock = _stock(workdir, told["release_id"])
    own = [
        path
        for path, part in zip(
            stock.paths("ledger"), parts_of(stock.manifest["parts"].get("ledger", [])), strict=True
        )
        if part.release == stock.release_id
    ]
    frames: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    entries = read_ledger(own)
    if entries.num_rows:
        changes = entries["new_code"].is_valid()
        columns = ["item_id", "row", "event", "reason", "at"]
        frames["ledger"] = (
            entries.select(columns).append_column("changes_code", changes).to_pandas()
        )
        settings["ledger"] = {"rows": len(stock.codes), "entries": entries.num_rows}
    # Without entries, as of what is out of stock or compacted, the whole table is looked at.
    rows = np.arange(stock.items.num_rows)
    if entries.num_rows:
        rows = np.unique(entries["row"].to_numpy())
    items = stock.items.take(rows)
    frames["table"] = pd.DataFrame(
        {
            "item_id": items["item_id"].to_pandas(),
            "status": items[life.STATUS].fill_null(life.ACTIVE).to_pandas(),
            "has_code": rows < len(stock.codes),
            "pending": items[life.PENDING].is_valid().to_pandas(),
        }
    )
    settings["table"] = {"items": len(rows)}
    if (change.path / "refresh.json").is_file():
        frames["refresh"] = pd.DataFrame([change.read_json("refresh.json")]).astype(float)
        settings["refresh"] = to_dict(config.retokenization.budget)
    return frames, settings


def _models(
    workdir: Path, config: RunConfig, told: dict[str, Any], features: Artifact
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Frames of the candidate beside its parent, and their figures, on users that both can answer.

    Each has its own rows; targets that a release doesn't know count as missed by it.
    """
    import numpy as np
    import torch

    from tesserec.evaluation import protocol
    from tesserec.evaluation.metrics import means
    from tesserec.recommender import Recommender
    from tesserec.steps.maintain import model_until, read_block
    from tesserec.validation import differences

    torch.set_num_threads(config.training.threads)
    since = model_until(workdir, _stock(workdir, told["parent"]))
    old = Recommender.load(workdir / "releases" / told["parent"])
    new = Recommender.load(workdir / "releases" / told["release_id"], beside=[old])
    blocks = [read_block(features, one.row_of, since) for one in (new, old)]
    cases = [None if block is None else block.cases for block in blocks]
    if cases[0] is None or cases[1] is None:
        return {}, {"users": 0, "reason": "the data have no times"}
    both = sorted(set(cases[0].users) & set(cases[1].users))
    if not both:
        return {}, {"users": 0, "reason": "no event follows another one in the newest block"}
    asked = [_of_users(one, both) for one in (cases[0], cases[1])]
    ranks = [protocol.rank(one, part) for one, part in zip((new, old), asked, strict=True)]
    ours, theirs = (_within(r.kept) for r in ranks)
    shared = {"resamples": config.evaluation.bootstrap, "seed": config.seed}
    length = np.array([len(h) for h in asked[0].histories], np.int64)
    frames = {
        "against_promoted": differences.against_promoted(ours, theirs, **shared),
        "slices": differences.slices(ours, theirs, asked[0].frequency, length, **shared),
    }
    figures: dict[str, Any] = {
        name: {"kept": means(_within(r.kept)), "dropped": means(_within(r.dropped))}
        for name, r in zip(("candidate", "promoted"), ranks, strict=True)
    }
    known = blocks[0].known if blocks[0] else False
    return frames, {"users": len(both), "events_known_to_promoted": known, **figures}


def _of_users(cases: Any, users: list[str]) -> Any:
    from tesserec.evaluation.protocol import Cases

    place = {user: at for at, user in enumerate(cases.users)}
    chosen = [place[user] for user in users]
    return Cases(
        users,
        [cases.histories[at] for at in chosen],
        cases.targets[chosen],
        cases.frequency[chosen],
    )


def _within(ranks: np.ndarray) -> np.ndarray:
    import numpy as np

    from tesserec.evaluation.protocol import DEPTH

    return np.where(ranks <= DEPTH, ranks, 0)
