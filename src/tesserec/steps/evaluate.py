"""Step: rank all items for every test user, ours beside the baselines."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesserec.artifacts import Artifact, build
from tesserec.config import RunConfig, to_dict
from tesserec.steps.catalogue import read_catalogue
from tesserec.steps.graph import graph_of
from tesserec.steps.train import read_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from tesserec.evaluation.protocol import Cases, Ranks
    from tesserec.recommender import Recommender

VERSION = 1
KIND = "metrics"
EXAMPLES = 10
log = logging.getLogger(__name__)


def run(
    workdir: Path, config: RunConfig, model: Artifact, codes: Artifact, features: Artifact
) -> Artifact:
    """The `metrics` artefact: `metrics.json`, `per_user.parquet`, `examples.json`.

    Raises:
        DataError: no user has a test target.
    """
    graph = graph_of(workdir, config, model, codes, features)
    params = {
        "evaluation": to_dict(config.evaluation),
        "decoder": to_dict(config.decoder),
        "split": to_dict(config.split),
        "seed": config.seed,
    }

    def make(folder: Path) -> None:
        _evaluate(folder, config, model, codes, features, graph)

    artifact, _ = build(
        workdir,
        KIND,
        params=params,
        parents=[model, codes, features, *([graph] if graph else [])],
        version=VERSION,
        make=make,
    )
    return artifact


def _evaluate(
    folder: Path,
    config: RunConfig,
    model: Artifact,
    codes: Artifact,
    features: Artifact,
    graph: Artifact | None,
) -> None:
    import torch

    from tesserec.decoders.graph_files import GRAPH
    from tesserec.errors import DataError
    from tesserec.evaluation import protocol
    from tesserec.recommender import Recommender

    torch.set_num_threads(config.training.threads)
    items = read_catalogue(config, codes, features)
    trained = read_model(config.model.name, model, items)
    decoder = to_dict(config.decoder) | ({"saved": graph.file(GRAPH)} if graph else {})
    recommender = Recommender.of_parts(trained, items.codes, items.ids, decoder=decoder)
    asked = items.cases("test", users=config.evaluation.users, seed=config.seed)
    if not len(asked):
        raise DataError(
            "no user has a test target: leave_one_out needs users with 3 events or more, a time "
            "split users with events before and after its middle; check the data and split"
        )
    ours = protocol.rank(recommender, asked)
    others = protocol.baseline_ranks(recommender, items.sequences, asked)
    metrics = protocol.evaluate(
        asked, ours, others, resamples=config.evaluation.bootstrap, seed=config.seed
    )
    metrics = {"release_id": None, "model": recommender.model_name, **metrics}
    _log(metrics)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    _write_per_user(folder, asked, {recommender.model_name: ours, **others})
    examples = _examples(recommender, asked, _titles(features))
    (folder / "examples.json").write_text(json.dumps(examples, indent=1, ensure_ascii=False))


def _write_per_user(folder: Path, asked: Cases, ranks: Mapping[str, Ranks]) -> None:
    """One row a user: ranks up to 50 (0: beyond, or never), training frequency of the target."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tesserec.evaluation.protocol import DEPTH

    def shown(values: np.ndarray) -> np.ndarray:
        return np.where(values <= DEPTH, values, 0).astype(np.int32)

    columns: dict[str, Any] = {"user_id": pa.array(asked.users, pa.string())}
    for name, both in ranks.items():
        columns[f"{name}_rank_kept"] = shown(both.kept)
        columns[f"{name}_rank_dropped"] = shown(both.dropped)
    columns["target_freq"] = asked.frequency.astype(np.int32)
    columns["history_length"] = np.array([len(h) for h in asked.histories], dtype=np.int32)
    pq.write_table(pa.table(columns), folder / "per_user.parquet", compression="zstd")


def _examples(
    recommender: Recommender, asked: Cases, titles: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Users spread evenly over the cases, with what the model shows them (seen items dropped)."""
    import numpy as np

    from tesserec.decoders.constraints import Constraints

    usable = [i for i, h in enumerate(asked.histories) if len(h)]
    spread = np.linspace(0, len(usable) - 1, min(EXAMPLES, len(usable))).round().astype(int)
    chosen = [usable[i] for i in spread.tolist()]
    histories = [asked.histories[i] for i in chosen]
    rows, scores = recommender.recommend_rows(histories, 10, Constraints(deny=histories))

    def shown(row: int) -> dict[str, str]:
        item = recommender.item_ids[row]
        return {"item_id": item, "title": titles.get(item, item)}

    return [
        {
            "user_id": asked.users[case],
            "history": [shown(r) for r in asked.histories[case][-10:].tolist()],
            "target": shown(int(asked.targets[case])) if asked.targets[case] >= 0 else None,
            "recommendations": [
                shown(r) | {"score": round(float(s), 4)}
                for r, s in zip(rows[line].tolist(), scores[line].tolist(), strict=True)
                if r >= 0
            ],
        }
        for line, case in enumerate(chosen)
    ]


def _titles(features: Artifact) -> dict[str, str]:
    import pyarrow.parquet as pq

    items: pa.Table = pq.read_table(features.file("item_profile"), columns=["item_id", "title"])
    pairs = zip(items["item_id"].to_pylist(), items["title"].to_pylist(), strict=True)
    return {item: title or item for item, title in pairs}


def _log(metrics: Mapping[str, Any]) -> None:
    named = {metrics["model"]: metrics, **metrics["baselines"]}
    for name, table in named.items():
        log.info(
            "%s: NDCG@10 %.4f kept, %.4f dropped",
            name,
            table["kept"]["ndcg@10"],
            table["dropped"]["ndcg@10"],
        )
