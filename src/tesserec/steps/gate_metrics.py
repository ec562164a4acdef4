"""Step: may the candidate replace what is promoted?"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesserec.artifacts import Artifact, build, open_artifact, write_atomic
from tesserec.config import RunConfig, to_dict
from tesserec.errors import ArtifactError

if TYPE_CHECKING:
    import numpy as np

VERSION = 2
log = logging.getLogger(__name__)


def run(workdir: Path, config: RunConfig, metrics: Artifact) -> Artifact:
    """Compare with popularity (first release) or with the promoted release, on the same users.

    The artefact holds `verdict.json`, `data_docs/` and `comparison.json` (with whom, and how).

    Raises:
        GateFailed: the candidate may not be promoted, now or when the verdict was made.
        ArtifactError: the promoted release or the features of `metrics` cannot be read.
    """
    from tesserec.validation.verdict import raise_if_failed

    promoted = rival(workdir, metrics)

    def make(folder: Path) -> None:
        _make(folder, workdir, config, metrics, promoted)

    params = {
        "promoted": promoted,
        "gates": to_dict(config.gates),
        "resamples": config.evaluation.bootstrap,
        "seed": config.seed,
    }
    artifact, _ = build(
        workdir, "gate_metrics", params=params, parents=(metrics,), version=VERSION, make=make
    )
    return raise_if_failed(artifact)


def rival(workdir: Path, metrics: Artifact) -> str | None:
    """The promoted release, unless there is none or it is the one that these metrics are of."""
    from tesserec.release import promoted, read_release, release_folder

    release_id = promoted(workdir)
    if release_id is None:
        return None
    manifest = read_release(release_folder(workdir, release_id))
    same = manifest.get("sources", {}).get("metrics") == metrics.key
    return None if same else release_id


def _make(
    folder: Path, workdir: Path, config: RunConfig, metrics: Artifact, promoted: str | None
) -> None:
    import pyarrow.parquet as pq

    from tesserec.validation import differences
    from tesserec.validation.gate import run_gate

    table = pq.read_table(metrics.file("per_user.parquet"))
    name = metrics.read_json("metrics.json").get("model", config.model.name)
    ours = table[f"{name}_rank_kept"].to_numpy()
    shared = {"resamples": config.evaluation.bootstrap, "seed": config.seed}
    comparison: dict[str, Any] = {"promoted": promoted}
    if promoted is None:
        theirs = table["popularity_rank_kept"].to_numpy()
        frames = {"against_popularity": differences.against_popularity(ours, theirs, **shared)}
        settings = {}
    else:
        kept, table_of_promoted = _score(
            workdir, config, metrics, promoted, table["user_id"].to_pylist()
        )
        comparison |= table_of_promoted
        frequency, length = table["target_freq"].to_numpy(), table["history_length"].to_numpy()
        frames = {
            "against_promoted": differences.against_promoted(ours, kept, **shared),
            "slices": differences.slices(ours, kept, frequency, length, **shared),
        }
        settings = {
            "against_promoted": {"max_loss": config.gates.max_loss},
            "slices": {"max_slice_loss": config.gates.max_slice_loss},
        }
    comparison["tables"] = {t: frame.to_dict(orient="records") for t, frame in frames.items()}
    write_atomic(folder / "comparison.json", json.dumps(comparison, indent=1))
    run_gate("gate_metrics", frames, folder, settings)


def _score(
    workdir: Path, config: RunConfig, metrics: Artifact, promoted: str, users: list[str]
) -> tuple[np.ndarray, dict[str, Any]]:
    """The promoted release on the candidate's test cases: kept ranks [U], and its metric table."""
    import numpy as np
    import torch

    from tesserec.data.splits import load_sequences, split
    from tesserec.evaluation import protocol
    from tesserec.evaluation.metrics import means
    from tesserec.recommender import Recommender
    from tesserec.release import release_folder

    torch.set_num_threads(config.training.threads)
    features = _parent(workdir, metrics, "features")
    recommender = Recommender.load(release_folder(workdir, promoted))
    parts = split(load_sequences(features), config.split, features.read_json("summary.json"))
    asked = protocol.cases(
        parts,
        recommender.row_of,
        np.zeros(len(recommender.item_ids), dtype=np.int64),  # slices go by the candidate's counts
        users=config.evaluation.users,
        seed=config.seed,
    )
    if asked.users != users:
        raise ArtifactError(
            f"{metrics.path} was evaluated on other users than its features give; delete it and "
            "run again"
        )
    ranks = protocol.rank(recommender, asked)
    log.info("scored the promoted release %s again on %d users", promoted, len(asked))
    table = {
        "users": len(asked),
        "kept": means(_within(ranks.kept)),
        "dropped": means(_within(ranks.dropped)),
    }
    return _within(ranks.kept), table


def _within(ranks: np.ndarray) -> np.ndarray:
    import numpy as np

    from tesserec.evaluation.protocol import DEPTH

    return np.where(ranks <= DEPTH, ranks, 0)


def _parent(workdir: Path, artifact: Artifact, kind: str) -> Artifact:
    """A parent of an artefact by kind; also found where the workdir was moved."""
    for pointer in artifact.manifest["parents"]:
        if pointer["id"].rpartition("-")[0] == kind:
            here = workdir / "artifacts" / pointer["id"]
            found = open_artifact(here if here.exists() else Path(pointer["uri"]))
            if found.content_hash == pointer["content_hash"]:
                return found
    raise ArtifactError(f"{artifact.path} names no {kind} that is still there; run again")
