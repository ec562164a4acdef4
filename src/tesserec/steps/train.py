"""Step: train the model on the code table and the training part of the sequences."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesserec import progress
from tesserec.artifacts import Artifact, artifact_key, build
from tesserec.config import RunConfig, to_dict

if TYPE_CHECKING:
    import numpy as np

    from tesserec.models.rpg import RPG
    from tesserec.training.loop import OnProgress, Progress

VERSION = 1
KIND = "model"
log = logging.getLogger(__name__)


def run(
    workdir: Path,
    config: RunConfig,
    codes: Artifact,
    features: Artifact,
    *,
    on_progress: OnProgress | None = None,
) -> Artifact:
    """Train and return the `model` artefact: `model.safetensors`, `model.json`, `history.jsonl`.

    A killed training goes on from `<workdir>/checkpoints/<key>`, which is removed at the end.
    """
    params = _params(config)
    parents = [codes, features]
    key = artifact_key(KIND, params=params, parents=parents, version=VERSION)
    checkpoints = workdir / "checkpoints" / key
    logs = workdir / "reports" / "logs" / f"{KIND}-{key}"

    def make(folder: Path) -> None:
        _train(folder, config, codes, features, checkpoints, key, logs, on_progress or _watch)

    artifact, _ = build(workdir, KIND, params=params, parents=parents, version=VERSION, make=make)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return artifact


def read_codes(codes: Artifact) -> tuple[np.ndarray, list[str]]:
    """The code table uint8/uint16 [N, m] and the item ids of its rows."""
    import pyarrow.parquet as pq
    from safetensors.numpy import load_file

    table = load_file(codes.file("codes.safetensors"))["codes"]
    ids = pq.read_table(codes.file("item_ids.parquet"))["item_id"].to_pylist()
    return table, ids


def _params(config: RunConfig) -> dict[str, Any]:
    training = to_dict(config.training)
    del training["checkpoint_s"]  # how often a copy is kept changes nothing in the weights
    return {
        "model": to_dict(config.model),
        "training": training,
        "codebook_size": config.tokenizer.codebook_size,
        "split": to_dict(config.split),
        "seed": config.seed,
    }


def _train(
    folder: Path,
    config: RunConfig,
    codes: Artifact,
    features: Artifact,
    checkpoints: Path,
    key: str,
    logs: Path,
    on_progress: OnProgress,
) -> None:
    from tesserec.data.splits import load_sequences, split
    from tesserec.evaluation import protocol
    from tesserec.evaluation.counts import training_counts
    from tesserec.recommender import Recommender
    from tesserec.training.checkpoint import Checkpoints
    from tesserec.training.loop import fit
    from tesserec.training.packing import windows

    table, ids = read_codes(codes)
    row_of = {item: row for row, item in enumerate(ids)}
    parts = split(load_sequences(features), config.split, features.read_json("summary.json"))
    sequences = protocol.training_sequences(parts, row_of)
    asked = protocol.cases(
        parts,
        row_of,
        training_counts(sequences, len(ids)),
        part="valid",
        users=config.training.eval_users,
        seed=config.seed,
    )

    def validate(model: RPG) -> dict[str, float]:
        recommender = Recommender.of_parts(model, table, ids)
        return protocol.validation_metrics(recommender, asked)

    model = new_model(config, table)
    data = windows(sequences, model.shape.positions)
    log.info("training on %d rows with %d targets", len(data.events), data.targets)
    history = fit(
        model,
        data,
        config.training,
        seed=config.seed,
        validate=validate if len(asked) else None,
        checkpoints=Checkpoints(checkpoints, recipe=key, every_s=config.training.checkpoint_s),
        logs=logs,
        on_progress=on_progress,
    )
    model.save(folder)
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history))


def new_model(config: RunConfig, codes: np.ndarray) -> RPG:
    """An untrained model for a code table [N, m].

    Raises:
        UsageError: `model.name` is unknown.
    """
    from tesserec.errors import UsageError
    from tesserec.models.rpg import RPG, Shape

    if config.model.name != "rpg":
        raise UsageError(f"model.name is {config.model.name!r}; use rpg")
    shape = Shape(
        digits=codes.shape[1],
        codebook_size=config.tokenizer.codebook_size,
        dim=config.model.dim,
        layers=config.model.layers,
        heads=config.model.heads,
        ffn=config.model.ffn,
        temperature=config.model.temperature,
        dropout=config.model.dropout,
        item_scale=config.model.item_scale,
    )
    return RPG(shape, codes, seed=config.seed)


def _watch(now: Progress) -> None:
    """Hand the progress to whoever watches this process (see tesserec.progress)."""
    progress.report(
        now.step,
        now.steps,
        epoch=now.epoch,
        epochs=now.epochs,
        loss=round(now.loss, 4),
        rows_per_s=round(now.rows_per_s, 1),
        seconds_left=round(now.seconds_left, 1),
    )
