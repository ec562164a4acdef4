"""Step `warm_start`: the promoted model goes on under codes that were made anew."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesserec.artifacts import Artifact, artifact_key, build
from tesserec.config import RunConfig, to_dict
from tesserec.errors import UsageError
from tesserec.steps import train
from tesserec.steps.catalogue import read_catalogue
from tesserec.steps.maintain import TOKENIZED, model_paths

if TYPE_CHECKING:
    from tesserec.retokenization.stock import Stock

VERSION = 1


def run(workdir: Path, config: RunConfig, codes: Artifact, features: Artifact) -> Artifact:
    """A `model` artefact as that of `train`: tokens renamed or mixed, then a few epochs over all
    training events at a constant rate. Of a fusion its part with codes goes on, the other one is
    trained anew, and both are mixed again.

    Raises:
        UsageError: the configuration asks for another model than the release has.
    """
    from tesserec.models.loading import parts_of
    from tesserec.retokenization.stock import open_stock

    stock = open_stock(workdir)
    name = config.model.name
    if TOKENIZED not in parts_of(name) or stock.manifest["model"] != name:
        raise UsageError(
            f"model.name is {name}, release {stock.release_id} has {stock.manifest['model']}; a "
            f"rebuild goes on with {TOKENIZED}, alone or in a fusion. For another model: tesserec "
            "run CONFIG.yaml"
        )
    own = _warm_started(workdir, config, codes, features, stock)
    if name == TOKENIZED:
        return own
    parts = {
        part: own if part == TOKENIZED else train.trained(part, workdir, config, codes, features)
        for part in parts_of(name)
    }
    return train.mixed(workdir, config, codes, features, parts)


def _warm_started(
    workdir: Path, config: RunConfig, codes: Artifact, features: Artifact, stock: Stock
) -> Artifact:
    params: dict[str, Any] = {
        "release": stock.release_id,
        "model": to_dict(config.model) | {"name": TOKENIZED},
        "tuning": to_dict(config.retokenization.rebuild),
        "training": to_dict(config.training),
        "split": to_dict(config.split),
        "seed": config.seed,
    }
    parents = [codes, features]
    key = artifact_key(train.KIND, params=params, parents=parents, version=VERSION)
    checkpoints = workdir / "checkpoints" / key

    def make(folder: Path) -> None:
        _make(folder, workdir, config, codes, features, stock, checkpoints)

    artifact, _ = build(
        workdir, train.KIND, params=params, parents=parents, version=VERSION, make=make
    )
    shutil.rmtree(checkpoints, ignore_errors=True)
    return artifact


def _make(
    folder: Path,
    workdir: Path,
    config: RunConfig,
    codes: Artifact,
    features: Artifact,
    stock: Stock,
    checkpoints: Path,
) -> None:
    from tesserec.models.loading import model_class
    from tesserec.retokenization.warm_start import warm_started
    from tesserec.steps.align import old_rows
    from tesserec.steps.maintain import model_until, read_block
    from tesserec.training.checkpoint import Checkpoints
    from tesserec.training.tuning import tune

    items = read_catalogue(config, codes, features)
    files = {path.name: path for path in model_paths(stock)}
    old = model_class(TOKENIZED).read(files["model.json"], files["model.safetensors"], stock.codes)
    assert items.codes is not None
    rows = old_rows(stock, items.ids)
    model, changed = warm_started(old, stock.codes, items.codes, rows)
    block = read_block(features, items.row_of, model_until(workdir, stock))
    sequences = items.sequences if block is None else block.sequences
    history = tune(
        model,
        sequences,
        [0] * len(sequences),  # all events, up to those that judge, are the block
        config.training,
        config.retokenization.rebuild,
        seed=config.seed,
        changed=changed,
        checkpoints=Checkpoints(
            checkpoints, recipe=checkpoints.name, every_s=config.training.checkpoint_s
        ),
        on_progress=train.watcher(config, TOKENIZED),
    )
    model.save(folder)
    train.bind(folder, codes)
    lines = "".join(json.dumps(line) + "\n" for line in history)
    (folder / train.HISTORY).write_text(lines)
