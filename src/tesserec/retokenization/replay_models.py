"""The models of a replay: trained anew, tuned block by block, or left as they were at the base."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file

from tesserec.artifacts import Artifact
from tesserec.errors import UsageError
from tesserec.evaluation.counts import training_counts
from tesserec.models.rpg import RPG
from tesserec.retokenization.replay_cells import Bench, Codes, settings
from tesserec.retokenization.replay_tables import table_of
from tesserec.retokenization.tokens import changed_codes, code_counts, reset_moments, soft_tokens
from tesserec.training.checkpoint import Checkpoints
from tesserec.training.loop import OnProgress, fit
from tesserec.training.onward import Moments, moments_of
from tesserec.training.packing import windows
from tesserec.training.tuning import tune

UPDATES = ("none", "tune", "soft", "retrain")
MOMENTS = "moments.safetensors"


def model_of(
    bench: Bench, policy: str, update: str, block: int, on_progress: OnProgress | None = None
) -> Artifact:
    """The model that goes with a policy's table of a block, trained on nothing later.

    `none` is the base's model under the new table, `tune` goes on from the block before, `soft`
    does so with tokens mixed of those that their items had, and `retrain` begins anew.
    """
    if block == 0 or update == "retrain":
        return _trained(bench, policy, block, on_progress)
    if update == "none":
        return model_of(bench, policy, update, 0, on_progress)
    before = model_of(bench, policy, update, block - 1, on_progress)
    tables = [table_of(bench, policy, b) for b in (block - 1, block)]
    params = {"block": block, "update": update, **_schedule(bench), **_tuning(bench)}

    def make(folder: Path) -> None:
        old, new = (Codes.read(bench, table) for table in tables)
        model = read_model(before, new.codes)
        size, kept = model.shape.codebook_size, new.codes[: len(old.codes)]
        changed = changed_codes(old.codes, kept, size)
        if update == "soft":
            model = soft_tokens(model, code_counts(old.codes, kept, size))
        moments = reset_moments(_read_moments(before), changed)
        timeline = bench.timeline

        def train(kept: Checkpoints) -> None:
            tune(
                model,
                timeline.sequences(block),
                timeline.ends(block - 1),
                bench.config.training,
                bench.config.retokenization.tuning,
                seed=bench.config.seed,
                changed=changed,
                moments=moments,
                checkpoints=kept,
                on_progress=on_progress,
            )

        _train(bench, folder, model, train)

    return bench.part("model", params, [before, *tables], make)


def _trained(bench: Bench, policy: str, block: int, on_progress: OnProgress | None) -> Artifact:
    """A model of its own table, trained on all events up to the end of a block."""
    if bench.config.model.name != "rpg":
        raise UsageError(
            f"model.name is {bench.config.model.name!r}; a replay is of codes, use rpg"
        )
    table = table_of(bench, policy, block)
    params = {"block": block, "update": "retrain", **_schedule(bench)}
    params |= settings(bench.config, "model", "tokenizer")

    def make(folder: Path) -> None:
        codes = Codes.read(bench, table).codes
        sequences = bench.timeline.sequences(block)
        seen = training_counts(sequences, len(codes)) > 0
        model = RPG.new(bench.config, codes, seen)
        data = windows(sequences, model.shape.positions)

        def train(kept: Checkpoints) -> None:
            fit(
                model,
                data,
                bench.config.training,
                seed=bench.config.seed,
                checkpoints=kept,
                on_progress=on_progress,
            )

        _train(bench, folder, model, train)

    return bench.part("model", params, [table], make)


def read_model(part: Artifact, codes: np.ndarray) -> Any:
    """The model of a part, for a table of as many items or more."""
    return RPG.load(part.path, codes)


def _train(bench: Bench, folder: Path, model: Any, train: Callable[[Checkpoints], None]) -> None:
    """Train with checkpoints, and keep weights and moments."""
    # the folder's name holds the part's key
    where = bench.workdir / "checkpoints" / folder.name.removeprefix(".tmp-")
    kept = Checkpoints(where, recipe=where.name, every_s=bench.config.training.checkpoint_s)
    train(kept)
    model.save(folder)
    found = kept.load()
    moments = moments_of(found[1], [n for n, _ in model.named_parameters()]) if found else {}
    flat = {f"{name}/{key}": v for name, entry in moments.items() for key, v in entry.items()}
    save_file(flat, folder / MOMENTS)
    shutil.rmtree(where, ignore_errors=True)


def _read_moments(part: Artifact) -> Moments:
    moments: dict[str, dict[str, Any]] = {}
    for name, tensor in load_file(part.file(MOMENTS)).items():
        parameter, key = name.rsplit("/", 1)
        moments.setdefault(parameter, {})[key] = tensor.clone()
    return moments


def _schedule(bench: Bench) -> dict[str, Any]:
    """What of `training` shows in the weights: nothing is validated here."""
    training: dict[str, Any] = settings(bench.config, "training")["training"]
    unseen = ("checkpoint_s", "eval_every", "eval_users", "patience")
    return {"training": {k: v for k, v in training.items() if k not in unseen}}


def _tuning(bench: Bench) -> dict[str, Any]:
    return {"tuning": settings(bench.config, "retokenization")["retokenization"]["tuning"]}
