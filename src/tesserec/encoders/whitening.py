"""Principal components with unit variance each, so that every digit carries the same energy.

Without whitening the leading components fill the first digits (Hou et al., KDD 2025).
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np

from tesserec.artifacts import write_atomic
from tesserec.encoders.rowwise import matmul
from tesserec.errors import ArtifactError, DataError

log = logging.getLogger(__name__)
# Variance below this share of the largest is rounding noise: whitening would blow it up.
_NOISE = 1e-10


class Whitening:
    """x -> (x - mean) @ weights; output columns beyond the rank of the data are zero."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.rank = 0
        self.explained = 0.0  # share of the variance of the fitted vectors that is kept
        self.mean = np.zeros(0, dtype=np.float64)  # [D]
        self.weights = np.zeros((0, dim), dtype=np.float64)  # [D, dim]

    def fit(self, vectors: np.ndarray) -> None:
        """Fit on vectors [N, D]; N and D of 1 are fine.

        Raises:
            DataError: there are no vectors, or one is not finite.
        """
        if vectors.ndim != 2 or not vectors.size:
            raise DataError(
                f"whitening got vectors of shape {list(vectors.shape)}; it takes [N, D]"
            )
        if not np.isfinite(vectors).all():
            raise DataError(
                "whitening got vectors with NaN or infinity; repair the encoder's output"
            )
        from threadpoolctl import threadpool_limits

        x = vectors.astype(np.float64)
        self.mean = x.mean(axis=0)
        x -= self.mean
        with threadpool_limits(1):  # sums of one thread: the same result for any thread count
            values, directions = np.linalg.eigh(x.T @ x / len(x))
        values, directions = values[::-1].clip(min=0.0), directions[:, ::-1]
        floor = max(values[0] * _NOISE, np.finfo(np.float64).tiny)
        self.rank = int(min(self.dim, (values > floor).sum()))
        if self.rank < self.dim:
            log.warning(
                "%d vectors span %d directions, fewer than pca_dim %d: the rest is zero",
                len(x), self.rank, self.dim,
            )  # fmt: skip
        kept = directions[:, : self.rank]
        # An eigenvector's sign is arbitrary: make its largest entry positive.
        largest = np.abs(kept).argmax(axis=0)
        kept = kept * np.where(kept[largest, np.arange(self.rank)] < 0, -1.0, 1.0)
        self.weights = np.zeros((len(self.mean), self.dim), dtype=np.float64)
        self.weights[:, : self.rank] = kept / np.sqrt(values[: self.rank])
        total = float(values.sum())
        self.explained = float(values[: self.rank].sum() / total) if total > 0 else 0.0

    def apply(self, vectors: np.ndarray) -> np.ndarray:
        """[N, D] -> float32 [N, dim]; a row depends on its own vector alone, to the bit.

        Raises:
            DataError: the vectors have another width than the fitted ones.
        """
        if vectors.ndim != 2 or vectors.shape[1] != len(self.mean):
            raise DataError(
                f"vectors of shape {list(vectors.shape)} do not fit a whitening of "
                f"{len(self.mean)} columns; use the encoder of the same release"
            )
        centred = vectors.astype(np.float64) - self.mean
        return matmul(centred, self.weights).astype(np.float32)

    def save(self, folder: Path) -> None:
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file({"mean": self.mean, "weights": self.weights}, folder / "whitening.safetensors")
        info = {"dim": self.dim, "rank": self.rank, "explained": self.explained}
        write_atomic(folder / "whitening.json", json.dumps(info, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Whitening:
        """What `save` wrote.

        Raises:
            ArtifactError: the files do not belong together.
        """
        from safetensors.numpy import load_file

        info = json.loads((folder / "whitening.json").read_text())
        arrays = load_file(folder / "whitening.safetensors")
        whitening = cls(int(info["dim"]))
        whitening.rank, whitening.explained = int(info["rank"]), float(info["explained"])
        whitening.mean, whitening.weights = arrays["mean"], arrays["weights"]
        if whitening.weights.shape != (len(whitening.mean), whitening.dim):
            raise ArtifactError(
                f"{folder}: whitening.json and whitening.safetensors do not belong together"
            )
        return whitening
