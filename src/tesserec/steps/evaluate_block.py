"""Step `evaluate_block`: the figures of a rebuilt model, on the last fifth of the newest block."""

from __future__ import annotations

import json
from pathlib import Path

from tesserec.artifacts import Artifact, build
from tesserec.config import RunConfig, to_dict
from tesserec.errors import DataError
from tesserec.steps.catalogue import read_catalogue
from tesserec.steps.train import read_model

VERSION = 1
KIND = "metrics"


def run(
    workdir: Path, config: RunConfig, model: Artifact, codes: Artifact, features: Artifact
) -> Artifact:
    """A `metrics` artefact: `metrics.json`, beside popularity and item-kNN.

    The split of a run would not do: a model that goes on has seen the events that it asks for.

    Raises:
        DataError: the data have no times, or no event to judge by.
    """
    from tesserec.retokenization.stock import open_stock
    from tesserec.steps.maintain import model_until

    stock = open_stock(workdir)
    since = model_until(workdir, stock)
    params = {"since": since, "evaluation": to_dict(config.evaluation), "seed": config.seed}

    def make(folder: Path) -> None:
        _evaluate(folder, config, model, codes, features, since)

    return build(
        workdir,
        KIND,
        params=params,
        parents=[model, codes, features],
        version=VERSION,
        make=make,
    )[0]


def _evaluate(
    folder: Path,
    config: RunConfig,
    model: Artifact,
    codes: Artifact,
    features: Artifact,
    since: int,
) -> None:
    import torch

    from tesserec.evaluation import protocol
    from tesserec.recommender import Recommender
    from tesserec.steps.maintain import read_block

    torch.set_num_threads(config.training.threads)
    items = read_catalogue(config, codes, features)
    block = read_block(features, items.row_of, since)
    if block is None or not len(block.cases):
        raise DataError(
            "a rebuilt model is judged on the newest events, and the data have no times, or no "
            "event that follows another one; run the configuration anew: tesserec run CONFIG.yaml"
        )
    recommender = Recommender.of_parts(
        read_model(config.model.name, model, items), items.codes, items.ids
    )
    ours = protocol.rank(recommender, block.cases)
    others = protocol.baseline_ranks(recommender, block.sequences, block.cases)
    table = protocol.evaluate(
        block.cases, ours, others, resamples=config.evaluation.bootstrap, seed=config.seed
    )
    found = {"release_id": None, "model": recommender.model_name, **table}
    found["protocol"] = {"block_since": block.since, "judged_from": block.until}
    (folder / "metrics.json").write_text(json.dumps(found, indent=1) + "\n")
