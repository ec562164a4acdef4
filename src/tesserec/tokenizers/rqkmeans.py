"""Residual k-means: short hierarchical codes (Luo et al., QARM, 2024; GRID, 2025).

Each level is one k-means of what the levels before left of the vectors. faiss learns the centres;
encoding is numpy, so that a saved tokenizer needs no faiss and a code depends on its vector alone.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tesserec.artifacts import write_atomic
from tesserec.encoders.rowwise import nearest, squared_norms, two_nearest
from tesserec.errors import ArtifactError, DataError
from tesserec.tokenizers.lloyd import lloyd, margin, plus_plus
from tesserec.tokenizers.nodes import Nodes
from tesserec.tokenizers.one_thread import MAX_TRAIN, one_thread

log = logging.getLogger(__name__)


class RQKMeans:
    """Centres [m, C, D], C <= codebook_size; codes [N, m] < C, the coarsest first."""

    name = "rqkmeans"
    hierarchical = True  # a digit means something below the digits before it

    def __init__(self, digits: int = 4, codebook_size: int = 256, iterations: int = 25) -> None:
        self.digits = digits
        self.codebook_size = codebook_size  # the model's vocabulary a digit, even if C is smaller
        self.iterations = iterations  # of k-means; 0 keeps the start
        self.centres = np.zeros((digits, 0, 0), dtype=np.float32)
        self.nodes: Nodes | None = None  # names other than the rows of the centres

    @property
    def dim(self) -> int:
        return self.centres.shape[2]

    def fit(self, vectors: np.ndarray, rng: np.random.Generator) -> None:
        """Learn from vectors [n, D] of the items that occur in training sequences.

        Equal vectors, rng and settings give equal bits on one machine: one thread.

        Raises:
            DataError: no vectors, or one that is not finite.
        """
        x = _checked(vectors)
        if len(x) > MAX_TRAIN:
            x = x[np.sort(rng.choice(len(x), MAX_TRAIN, replace=False))]
        size = min(self.codebook_size, len(x))
        if size < self.codebook_size:
            log.warning(
                "%d training items for %d centres a level: only %d centres are used",
                len(x), self.codebook_size, size,
            )  # fmt: skip
        self.centres = np.zeros((self.digits, size, x.shape[1]), dtype=np.float32)
        with one_thread() as faiss:
            self.centres = self.relearned(x, lambda r, _: _learn(faiss, r, size, self, rng)).centres

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """uint8 (uint16 beyond 256 centres) [N, m]; ties go to the lowest code.

        A row depends on its own vector alone, to the bit: not on batch, order or threads.

        Raises:
            DataError: the vectors have another width than the fitted ones.
        """
        codes = np.empty((len(vectors), self.digits), dtype=self.code_type)
        for j, residual in self._levels(vectors):
            codes[:, j] = nearest(residual, self.centres[j])
            residual -= self.centres[j][codes[:, j]]
        return self.named(codes)

    def named(self, rows: np.ndarray) -> np.ndarray:
        """Codes [N, m] of rows [N, m] of the centres."""
        return rows if self.nodes is None else self.nodes.named(rows)

    def rows_of(self, codes: np.ndarray) -> np.ndarray:
        """The rows [N, m] of the centres that codes [N, m] are names of."""
        return codes if self.nodes is None else self.nodes.plain(codes)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """float32 [N, D]: the vector that the codes [N, m] stand for."""
        total, rows = np.zeros((len(codes), self.dim), dtype=np.float32), self.rows_of(codes)
        for j in range(self.digits):
            total += self.centres[j][rows[:, j]]
        return total

    def relearned(
        self, vectors: np.ndarray, learn: Callable[[np.ndarray, np.ndarray], np.ndarray]
    ) -> RQKMeans:
        """Each level with `learn(residuals [N, D], centres [C, D])`: residuals of the new ones."""
        new = np.empty_like(self.centres)
        for j, residual in self._levels(vectors):
            new[j] = learn(residual, self.centres[j])
            residual -= new[j][nearest(residual, new[j])]
        return self.with_centres(new)

    def warm(self, vectors: np.ndarray, passes: int) -> RQKMeans:
        """A tokenizer whose centres went `passes` Lloyd passes over vectors [N, D], level by level.

        Codes keep their names: a centre moves, none is exchanged, and one of which nothing is
        nearest keeps its place.
        """
        return self.relearned(vectors, lambda x, centres: lloyd(x, centres, passes))

    def with_centres(self, centres: np.ndarray) -> RQKMeans:
        """A tokenizer of the same settings and names with other centres [m, C, D]."""
        other = RQKMeans(self.digits, self.codebook_size, self.iterations)
        other.centres, other.nodes = centres.astype(np.float32), self.nodes
        return other

    def errors(self, vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """float32 [N]: squared distance of vectors [N, D] to what codes [N, m] stand for."""
        left, rows = vectors.astype(np.float32), self.rows_of(codes)
        for j, residual in self._levels(vectors):
            residual -= self.centres[j][rows[:, j]]
            left = residual
        return squared_norms(left)

    def margins(self, vectors: np.ndarray) -> np.ndarray:
        """float32 [N, m]: (d2 - d1) / d2, d the distances to the two nearest centres of a level.

        0: a change of the last bit may exchange the code. 1: on its centre, or no other centre.
        """
        out = np.empty((len(vectors), self.digits), dtype=np.float32)
        for j, residual in self._levels(vectors):
            out[:, j] = margin(two_nearest(residual, self.centres[j]))
            residual -= self.centres[j][nearest(residual, self.centres[j])]
        return out

    @property
    def code_type(self) -> type[np.unsignedinteger[Any]]:
        return np.uint8 if self.codebook_size <= 256 else np.uint16

    def save(self, folder: Path) -> None:
        """Write `rqkmeans.safetensors` (centres), `tokenizer.json`, and names if it has its own."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file({"centres": self.centres}, folder / "rqkmeans.safetensors")
        if self.nodes is not None:
            self.nodes.save(folder)
        info = {
            "name": self.name,
            "dim": self.dim,
            "digits": self.digits,
            "codebook_size": self.codebook_size,
            "centres": self.centres.shape[1],
            "iterations": self.iterations,
        }
        write_atomic(folder / "tokenizer.json", json.dumps(info, indent=1))

    @classmethod
    def load(cls, folder: Path) -> RQKMeans:
        """What `save` wrote; needs no faiss.

        Raises:
            ArtifactError: the files do not belong together.
        """
        from safetensors.numpy import load_file

        info = json.loads((folder / "tokenizer.json").read_text())
        tokenizer = cls(int(info["digits"]), int(info["codebook_size"]), int(info["iterations"]))
        tokenizer.centres = load_file(folder / "rqkmeans.safetensors")["centres"]
        tokenizer.nodes = Nodes.load(folder)
        expected = (tokenizer.digits, int(info["centres"]), int(info["dim"]))
        if tokenizer.centres.shape != expected:
            raise ArtifactError(
                f"{folder}: tokenizer.json and rqkmeans.safetensors do not belong together"
            )
        return tokenizer

    def _levels(self, vectors: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Level by level what is left of the vectors: one array, of which the caller subtracts."""
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise DataError(
                f"vectors of shape {list(vectors.shape)} do not fit a tokenizer of {self.dim} "
                "columns; use the encoder of the same release"
            )
        residual = vectors.astype(np.float32)
        for j in range(self.digits):
            yield j, residual


def _checked(vectors: np.ndarray) -> np.ndarray:
    if vectors.ndim != 2 or not len(vectors):
        raise DataError(
            f"the tokenizer got training vectors of shape {list(vectors.shape)}; at least one "
            "item must occur in the training sequences"
        )
    if not np.isfinite(vectors).all():
        raise DataError("the tokenizer got vectors with NaN or infinity; check the encoder")
    return np.ascontiguousarray(vectors, dtype=np.float32)


def _learn(
    faiss: Any, x: np.ndarray, size: int, settings: RQKMeans, rng: np.random.Generator
) -> np.ndarray:
    """k-means of `x` [n, D] from a k-means++ start -> [size, D]."""
    start = plus_plus(x, size, rng)
    if not settings.iterations:
        return start
    means = faiss.Kmeans(
        x.shape[1],
        size,
        niter=settings.iterations,
        seed=int(rng.integers(1, 2**31 - 1)),
        min_points_per_centroid=1,
        max_points_per_centroid=max(256, MAX_TRAIN // size),
    )
    means.train(np.ascontiguousarray(x), init_centroids=start)
    return means.centroids
