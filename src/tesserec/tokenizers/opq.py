"""Optimised product quantisation: long unordered codes (Ge et al., CVPR 2013; RPG, KDD 2025).

The specification's index `OPQ{m},IVF1,PQ{m}x8` comes to a rotation and one k-means a digit: its
single list only subtracts one constant vector, which k-means absorbs. faiss learns both; encoding
is numpy, so that a saved tokenizer needs no faiss and a code depends on its vector alone.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tesserec.artifacts import write_atomic
from tesserec.encoders.rowwise import matmul, nearest, squared_norms, two_nearest
from tesserec.errors import ArtifactError, DataError, UsageError
from tesserec.tokenizers.lloyd import lloyd, margin
from tesserec.tokenizers.one_thread import MAX_TRAIN, one_thread

log = logging.getLogger(__name__)


class OPQ:
    """Rotation [D, D] and centres [m, C, D/m], C <= codebook_size; codes [N, m] < C."""

    name = "opq"
    hierarchical = False  # each digit stands for a part of the vector, whatever the others say

    def __init__(self, digits: int = 32, codebook_size: int = 256, iterations: int = 25) -> None:
        self.digits = digits
        self.codebook_size = codebook_size  # the model's vocabulary a digit, even if C is smaller
        self.iterations = iterations  # of the rotation; 0 keeps the random one
        self.rotation = np.zeros((0, 0), dtype=np.float32)  # x @ rotation
        self.centres = np.zeros((digits, 0, 0), dtype=np.float32)

    @property
    def dim(self) -> int:
        return len(self.rotation)

    def fit(self, vectors: np.ndarray, rng: np.random.Generator) -> None:
        """Learn from vectors [n, D] of the items that occur in training sequences.

        Equal vectors, rng and settings give equal bits on one machine: faiss runs in one thread.

        Raises:
            UsageError: D is not a multiple of `digits`.
            DataError: no vectors, or one that is not finite.
        """
        x = self._checked(vectors)
        if len(x) > MAX_TRAIN:
            x = x[np.sort(rng.choice(len(x), MAX_TRAIN, replace=False))]
        centres = min(self.codebook_size, len(x))
        if centres < self.codebook_size:
            log.warning(
                "%d training items for %d centres a digit: only %d centres are used",
                len(x), self.codebook_size, centres,
            )  # fmt: skip
        seed = int(rng.integers(1, 2**31 - 1))
        with one_thread() as faiss:
            random_rotation = _orthogonal(x.shape[1], rng)
            self.rotation, start = _learn_rotation(
                faiss, x, random_rotation, self.digits, centres, self.iterations, seed
            )
            self.centres = _learn_centres(
                faiss, self._split(matmul(x, self.rotation)), centres, start, seed
            )

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """uint8 (uint16 beyond 256 centres) [N, m]; ties go to the lowest code.

        A row depends on its own vector alone, to the bit: not on batch, order or threads.

        Raises:
            DataError: the vectors have another width than the fitted ones.
        """
        parts = self.parts(vectors)
        codes = np.empty((len(vectors), self.digits), dtype=self.code_type)
        for j in range(self.digits):
            codes[:, j] = nearest(parts[j], self.centres[j])
        return codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """float32 [N, D]: the vector that the codes [N, m] stand for."""
        parts = [self.centres[j][codes[:, j]] for j in range(self.digits)]
        return np.concatenate(parts, axis=1) @ self.rotation.T

    def parts(self, vectors: np.ndarray) -> np.ndarray:
        """float32 [m, N, D/m]: what each digit sees of vectors [N, D].

        Raises:
            DataError: the vectors have another width than the fitted ones.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise DataError(
                f"vectors of shape {list(vectors.shape)} do not fit a tokenizer of {self.dim} "
                "columns; use the encoder of the same release"
            )
        return self._split(matmul(vectors.astype(np.float32), self.rotation))

    def relearned(
        self, vectors: np.ndarray, learn: Callable[[np.ndarray, np.ndarray], np.ndarray]
    ) -> OPQ:
        """The same rotation, each digit with `learn(part [N, D/m], centres [C, D/m])` of it."""
        parts = self.parts(vectors)
        return self.with_centres(
            np.stack([learn(part, old) for part, old in zip(parts, self.centres, strict=True)])
        )

    def warm(self, vectors: np.ndarray, passes: int) -> OPQ:
        """A tokenizer whose centres went `passes` Lloyd passes over vectors [N, D].

        Codes keep their names: a centre moves, none is exchanged, and one of which nothing is
        nearest keeps its place. The rotation stays.
        """
        return self.relearned(vectors, lambda x, centres: lloyd(x, centres, passes))

    def with_centres(self, centres: np.ndarray) -> OPQ:
        """A tokenizer of the same rotation and settings with other centres [m, C, D/m]."""
        other = OPQ(self.digits, self.codebook_size, self.iterations)
        other.rotation, other.centres = self.rotation, centres.astype(np.float32)
        return other

    def digit_errors(self, vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """float32 [N, m]: squared distance of each part to the centre of its code."""
        out = np.empty((len(vectors), self.digits), dtype=np.float32)
        for j, part in enumerate(self.parts(vectors)):
            out[:, j] = squared_norms(part - self.centres[j][codes[:, j]])
        return out

    def errors(self, vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """float32 [N]: squared distance of vectors [N, D] to what codes [N, m] stand for."""
        total = np.zeros(len(vectors), dtype=np.float32)
        for column in self.digit_errors(vectors, codes).T:
            total += column
        return total

    def margins(self, vectors: np.ndarray) -> np.ndarray:
        """float32 [N, m]: (d2 - d1) / d2, d the distances to the two nearest centres.

        0: a change of the last bit may exchange the code. 1: on its centre, or no other centre.
        """
        out = np.empty((len(vectors), self.digits), dtype=np.float32)
        for j, part in enumerate(self.parts(vectors)):
            out[:, j] = margin(two_nearest(part, self.centres[j]))
        return out

    @property
    def code_type(self) -> type[np.unsignedinteger[Any]]:
        return np.uint8 if self.codebook_size <= 256 else np.uint16

    def save(self, folder: Path) -> None:
        """Write `opq.safetensors` (rotation, centres) and `tokenizer.json`."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file({"rotation": self.rotation, "centres": self.centres}, folder / "opq.safetensors")
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
    def load(cls, folder: Path) -> OPQ:
        """What `save` wrote; needs no faiss.

        Raises:
            ArtifactError: the files do not belong together.
        """
        from safetensors.numpy import load_file

        info = json.loads((folder / "tokenizer.json").read_text())
        tokenizer = cls(int(info["digits"]), int(info["codebook_size"]), int(info["iterations"]))
        arrays = load_file(folder / "opq.safetensors")
        tokenizer.rotation, tokenizer.centres = arrays["rotation"], arrays["centres"]
        dim, digits = int(info["dim"]), tokenizer.digits
        expected = (digits, int(info["centres"]), dim // digits)
        if tokenizer.rotation.shape != (dim, dim) or tokenizer.centres.shape != expected:
            raise ArtifactError(
                f"{folder}: tokenizer.json and opq.safetensors do not belong together"
            )
        return tokenizer

    def _checked(self, vectors: np.ndarray) -> np.ndarray:
        if vectors.ndim != 2 or not len(vectors):
            raise DataError(
                f"the tokenizer got training vectors of shape {list(vectors.shape)}; at least one "
                "item must occur in the training sequences"
            )
        if vectors.shape[1] % self.digits:
            raise UsageError(
                f"encoder.pca_dim {vectors.shape[1]} is not a multiple of tokenizer.digits "
                f"{self.digits}; change one of the two"
            )
        if not np.isfinite(vectors).all():
            raise DataError("the tokenizer got vectors with NaN or infinity; check the encoder")
        return np.ascontiguousarray(vectors, dtype=np.float32)

    def _split(self, rotated: np.ndarray) -> np.ndarray:
        """[N, D] -> [m, N, D/m]."""
        parts = rotated.reshape(len(rotated), self.digits, rotated.shape[1] // self.digits)
        return np.ascontiguousarray(parts.transpose(1, 0, 2))


def _orthogonal(dim: int, rng: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(rng.standard_normal((dim, dim)))
    return (q * np.sign(np.diag(r))).astype(np.float32)


def _learn_rotation(
    faiss: Any, x: np.ndarray, start: np.ndarray, digits: int, centres: int, niter: int, seed: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """The rotation [D, D], and the centres [m, 2^b, D/m] of its last but one step."""
    bits = centres.bit_length() - 1  # faiss counts centres in powers of two
    dim = x.shape[1]
    if bits < 1 or niter < 1 or len(x) < dim:
        # faiss's OPQMatrix writes behind its buffer with fewer vectors than dimensions; and a
        # rotation of more numbers than there are data would only fit noise.
        return start, None
    transform = faiss.OPQMatrix(dim, digits)
    quantiser = faiss.ProductQuantizer(dim, digits, bits)
    quantiser.cp.seed = seed
    quantiser.cp.min_points_per_centroid = 1  # silences a warning; the caller has logged its own
    quantiser.cp.max_points_per_centroid = max(256, MAX_TRAIN >> bits)
    transform.pq = quantiser
    transform.niter = niter
    transform.niter_pq_0, transform.niter_pq = (
        10,
        1,
    )  # many rotations, few k-means steps: docs/log.md
    transform.max_train_points = len(x)
    faiss.copy_array_to_vector(np.ascontiguousarray(start.T).ravel(), transform.A)
    transform.train(x)
    rotation = faiss.vector_to_array(transform.A).reshape(dim, dim).T.copy()
    learnt = faiss.vector_to_array(quantiser.centroids).reshape(digits, 1 << bits, -1).copy()
    return rotation, learnt if centres == 1 << bits else None


def _learn_centres(
    faiss: Any, parts: np.ndarray, centres: int, start: np.ndarray | None, seed: int
) -> np.ndarray:
    """k-means of each digit's sub-vectors [m, n, D/m] -> [m, centres, D/m]."""
    digits, _, width = parts.shape
    learnt = np.empty((digits, centres, width), dtype=np.float32)
    for j in range(digits):
        means = faiss.Kmeans(
            width,
            centres,
            niter=8 if start is not None else 25,  # a warm start is nearly there
            seed=seed + j,
            min_points_per_centroid=1,
            max_points_per_centroid=max(256, MAX_TRAIN // centres),
        )
        means.train(parts[j], init_centroids=None if start is None else start[j])
        learnt[j] = means.centroids
    return learnt
