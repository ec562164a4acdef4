"""The vectors of a release's items, from the artefacts of the run and of the deltas since."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from tesserec.artifacts import Artifact, open_artifact
from tesserec.data.compute import pc
from tesserec.errors import ArtifactError
from tesserec.retokenization.stock import Stock

ADDED = "added_vectors"  # of a manifest's sources: keys of `survey` artefacts, oldest first
SURVEY = "survey"
VECTORS = "vectors.npy"


def item_vectors(workdir: Path, stock: Stock, name: str = VECTORS) -> np.ndarray:
    """float32 [N, D], row i of item i; memory-mapped if nothing was added since the run.

    `name`: `vectors.npy`, or `reference.npy` for those by the reference encoder.

    Raises:
        ArtifactError: see `vector_parts`.
    """
    parts = vector_parts(workdir, stock, name)
    if len(parts) == 1:
        return parts[0][1]
    whole = np.full((len(stock.codes), parts[0][1].shape[1]), np.nan, np.float32)
    for rows, vectors in parts:
        whole[rows[rows >= 0]] = vectors[rows >= 0]
    return whole


def vector_parts(
    workdir: Path, stock: Stock, name: str = VECTORS
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The same as it lies on the disk: rows int64 [p] and memory-mapped vectors float32 [p, D].

    Row -1 is of a vector that a later part has anew, or that is none.

    Raises:
        ArtifactError: an artefact that the release was made of is not there any more.
    """
    sources = stock.manifest["sources"]
    base = _open(workdir, "vectors", sources["vectors"])
    vectors = np.load(base.file(name), mmap_mode="r", allow_pickle=False)
    # Rows of the run come first and never move; later ones are found by their ids.
    parts = [(np.arange(len(vectors)), vectors)]
    added = sources.get(ADDED, [])
    known = stock.items["item_id"].combine_chunks() if added else None
    part_of = np.zeros(len(stock.codes), np.int64)
    for number, key in enumerate(added, 1):
        survey = _open(workdir, SURVEY, key)
        vectors = np.load(survey.file(name), mmap_mode="r", allow_pickle=False)
        ids = pq.read_table(survey.file("item_ids.parquet"))["item_id"].combine_chunks()
        found = pc.fill_null(pc.index_in(ids, value_set=known), -1)
        rows = found.to_numpy().astype(np.int64)
        rows[np.isnan(vectors).any(axis=1)] = -1
        part_of[rows[rows >= 0]] = number
        parts.append((rows, vectors))
    for number, (rows, _) in enumerate(parts):
        rows[(rows >= 0) & (part_of[rows] != number)] = -1
    return parts


def _open(workdir: Path, kind: str, key: str) -> Artifact:
    path = workdir / "artifacts" / f"{kind}-{key}"
    if not path.is_dir():
        raise ArtifactError(
            f"there is no {path}, which holds the vectors of the release's items; restore it, or "
            "run the configuration again: tesserec run CONFIG.yaml"
        )
    return open_artifact(path)
