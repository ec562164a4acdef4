"""The vectors of a release's items, from the artefacts of the run and of the deltas since."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from tesserec.artifacts import Artifact, open_artifact
from tesserec.errors import ArtifactError
from tesserec.retokenization.stock import Stock

ADDED = "added_vectors"  # of a manifest's sources: keys of `survey` artefacts, oldest first
SURVEY = "survey"


def item_vectors(workdir: Path, stock: Stock) -> np.ndarray:
    """float32 [N, D], row i of item i; memory-mapped if nothing was added since the run.

    Raises:
        ArtifactError: an artefact that the release was made of is not there any more.
    """
    sources = stock.manifest["sources"]
    base = _open(workdir, "vectors", sources["vectors"])
    vectors = np.load(base.file("vectors.npy"), mmap_mode="r", allow_pickle=False)
    added = sources.get(ADDED, [])
    if not added:
        return vectors
    # Rows of the run come first and never move; later ones are found by their ids.
    whole = np.full((len(stock.codes), vectors.shape[1]), np.nan, np.float32)
    whole[: len(vectors)] = vectors
    row_of = {item: row for row, item in enumerate(stock.item_ids)}
    for key in added:
        survey = _open(workdir, SURVEY, key)
        part = np.load(survey.file("vectors.npy"), allow_pickle=False)
        ids = pq.read_table(survey.file("item_ids.parquet"))["item_id"].to_pylist()
        whole[[row_of[item] for item in ids]] = part
    return whole


def _open(workdir: Path, kind: str, key: str) -> Artifact:
    path = workdir / "artifacts" / f"{kind}-{key}"
    if not path.is_dir():
        raise ArtifactError(
            f"there is no {path}, which holds the vectors of the release's items; restore it, or "
            "run the configuration again: tesserec run CONFIG.yaml"
        )
    return open_artifact(path)
