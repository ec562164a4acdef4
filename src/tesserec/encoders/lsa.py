"""Latent semantic analysis: TF-IDF of words and word pairs, then truncated SVD. Needs no download.

Deerwester et al., JASIS 1990; the embedded default encoder.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tesserec.artifacts import write_atomic
from tesserec.encoders.text import item_texts
from tesserec.errors import ArtifactError, UsageError, need

log = logging.getLogger(__name__)
_MAX_TERMS = 50_000


class LSA:
    """TF-IDF + SVD with a fixed seed. Rows of `encode` depend on their own text alone."""

    name = "lsa"
    learns = True  # of the items that it is fitted on

    def __init__(self, dim: int = 256, seed: int = 1) -> None:
        self.dim = dim
        self.seed = seed
        self.terms: list[str] = []
        self.idf = np.zeros(0, dtype=np.float64)  # [T]
        self.components = np.zeros((0, dim), dtype=np.float64)  # [T, dim]
        self._vectorizer: Any = None

    def fit(self, items: pa.Table) -> None:
        """Learn vocabulary, weights and components of the items' texts."""
        try:
            from sklearn.utils import extmath
            from threadpoolctl import threadpool_limits
        except ModuleNotFoundError:
            raise need("scikit-learn", "train") from None
        svd: Any = extmath.randomized_svd  # its stubs take n_iter for a string
        texts = item_texts(items)
        learner = self._new_vectorizer(min_df=2 if len(texts) >= 100 else 1)
        try:
            matrix = learner.fit_transform(texts)
        except ValueError:  # sklearn: "empty vocabulary" or "no terms remain"
            log.warning("no item has a usable text: all %d vectors are zero", len(texts))
            self.terms, self.idf = [], np.zeros(0, dtype=np.float64)
            self.components = np.zeros((0, self.dim), dtype=np.float64)
            self._vectorizer = None
            return
        self.terms = learner.get_feature_names_out().tolist()
        self.idf = np.asarray(learner.idf_, dtype=np.float64)
        rank = min(self.dim, *matrix.shape)
        with threadpool_limits(1):  # sums of one thread: the same result for any thread count
            _, _, right = svd(matrix, rank, n_iter=4, random_state=self.seed)
        self.components = np.zeros((len(self.terms), self.dim), dtype=np.float64)
        self.components[:, :rank] = right.T
        self._vectorizer = self._fitted_vectorizer()

    def encode(self, items: pa.Table) -> np.ndarray:
        """float32 [N, dim]; an item without known words is the zero vector."""
        if not self.terms:
            return np.zeros((items.num_rows, self.dim), dtype=np.float32)
        # scipy adds the entries of a row in column order, one row at a time: batches do not matter.
        return np.asarray(
            self._vectorizer.transform(item_texts(items)) @ self.components, dtype=np.float32
        )

    def save(self, folder: Path) -> None:
        """Write vocabulary (JSON), idf and components (safetensors); no pickle."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file({"idf": self.idf, "components": self.components}, folder / "lsa.safetensors")
        write_atomic(folder / "vocabulary.json", json.dumps(self.terms, ensure_ascii=False))
        info = {"name": self.name, "dim": self.dim, "seed": self.seed, "terms": len(self.terms)}
        write_atomic(folder / "encoder.json", json.dumps(info, indent=1))

    @classmethod
    def load(cls, folder: Path) -> LSA:
        """The encoder that `save` wrote; equal texts give equal vectors.

        Raises:
            ArtifactError: the files do not belong together.
        """
        from safetensors.numpy import load_file

        info = json.loads((folder / "encoder.json").read_text())
        encoder = cls(dim=int(info["dim"]), seed=int(info["seed"]))
        encoder.terms = json.loads((folder / "vocabulary.json").read_text())
        arrays = load_file(folder / "lsa.safetensors")
        encoder.idf, encoder.components = arrays["idf"], arrays["components"]
        if encoder.components.shape != (len(encoder.terms), encoder.dim):
            raise ArtifactError(
                f"encoder {folder}: components are {encoder.components.shape}, the vocabulary has "
                f"{len(encoder.terms)} terms and dim is {encoder.dim}; fetch the release again"
            )
        if encoder.terms:
            encoder._vectorizer = encoder._fitted_vectorizer()
        return encoder

    def _new_vectorizer(self, **options: Any) -> Any:
        try:
            from sklearn.feature_extraction.text import TfidfVectorizer
        except ModuleNotFoundError:
            raise need("scikit-learn", "train") from None
        if self.dim < 1:
            raise UsageError(f"encoder.lsa_dim is {self.dim}; use at least 1")
        return TfidfVectorizer(
            lowercase=True,
            ngram_range=(1, 2),
            sublinear_tf=True,
            max_features=None if "vocabulary" in options else _MAX_TERMS,
            dtype=np.float64,
            **options,
        )

    def _fitted_vectorizer(self) -> Any:
        """The vectorizer of the saved parts: fit and load use this one, so both encode alike."""
        vectorizer = self._new_vectorizer(vocabulary={t: i for i, t in enumerate(self.terms)})
        vectorizer.idf_ = self.idf
        return vectorizer
