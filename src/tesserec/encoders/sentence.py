"""Sentence embeddings by any sentence-transformers model (Reimers and Gurevych, EMNLP 2019)."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tesserec.artifacts import sha256_of, write_atomic
from tesserec.encoders.text import item_texts
from tesserec.errors import ArtifactError, UsageError, need

log = logging.getLogger(__name__)
_GPU_BATCH = 64


class Sentence:
    """A model by name or local folder. Saved as its name and a hash of its weights, not copied."""

    name = "sentence"
    learns = False  # of the items that it is fitted on

    def __init__(self, model: str, device: str = "") -> None:
        self.model = model
        self.device = device  # empty: a GPU if there is one
        self.sha256 = ""
        self._loaded: Any = None

    def fit(self, items: pa.Table) -> None:
        """Nothing is learnt; the model is loaded and hashed."""
        self.sha256 = model_hash(self._open())

    def encode(self, items: pa.Table) -> np.ndarray:
        """float32 [N, D], not normalised: whitening comes next.

        On the CPU each text is encoded alone: padding to a longer neighbour would change the last
        bits, and a CPU gains little from batches. On a GPU texts of equal token count share batches
        of one fixed size, so that shapes do not depend on the neighbours either.
        """
        model, texts = self._open(), item_texts(items)
        vector_of: dict[str, np.ndarray] = {}
        for batch in self._batches(model, list(dict.fromkeys(texts))):
            full = batch + batch[:1] * (_GPU_BATCH - len(batch) if self.device != "cpu" else 0)
            vectors = model.encode(full, batch_size=len(full), show_progress_bar=False)
            vectors = np.asarray(vectors, dtype=np.float32)[: len(batch)]
            vector_of.update(zip(batch, vectors, strict=True))
        if not texts:
            return np.zeros((0, 0), dtype=np.float32)
        return np.stack([vector_of[text] for text in texts])

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        info = {"name": self.name, "model": self.model, "sha256": self.sha256}
        write_atomic(folder / "encoder.json", json.dumps(info, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Sentence:
        """The encoder that `save` named.

        Raises:
            UsageError: the model is not at hand.
            ArtifactError: the model under that name has other weights now.
        """
        info = json.loads((folder / "encoder.json").read_text())
        encoder = cls(str(info["model"]))
        encoder.sha256 = str(info["sha256"])
        found = model_hash(encoder._open())
        if found != encoder.sha256:
            raise ArtifactError(
                f"the model {encoder.model!r} has hash {found[:12]}, the release was made with "
                f"{encoder.sha256[:12]}; put the former model back or build a new release"
            )
        return encoder

    def _batches(self, model: Any, texts: list[str]) -> list[list[str]]:
        if self.device == "cpu":
            return [[text] for text in texts]
        by_length: dict[int, list[str]] = {}
        for text in texts:
            length = int(model.tokenize([text])["input_ids"].shape[1])
            by_length.setdefault(length, []).append(text)
        return [
            group[i : i + _GPU_BATCH]
            for _, group in sorted(by_length.items())
            for i in range(0, len(group), _GPU_BATCH)
        ]

    def _open(self) -> Any:
        if self._loaded is None:
            self.device = self.device or _best_device()
            self._loaded = _open_model(self.model, self.device)
        return self._loaded


def model_hash(model: Any) -> str:
    """Hash of everything that shapes a vector: weights, modules, tokenizer, cut-off length."""
    digest = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        array = tensor.detach().cpu().contiguous()
        digest.update(f"{key} {array.dtype} {list(array.shape)}\n".encode())
        digest.update(array.flatten().view(_byte_type()).numpy())
    digest.update(f"{[type(m).__name__ for m in model]} {model.max_seq_length}\n".encode())
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    digest.update((backend.to_str() if backend is not None else repr(model.tokenizer)).encode())
    return digest.hexdigest()


def folder_hash(model: str) -> str:
    """Hash of a local model's files; "" for a model given by name. Part of the step's key."""
    folder = Path(model)
    if not folder.is_dir():
        return ""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    lines = [f"{p.relative_to(folder).as_posix()} {sha256_of(p)}" for p in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _best_device() -> str:
    try:
        import torch
    except ModuleNotFoundError:
        raise need("sentence-transformers", "sentence") from None
    return "cuda" if torch.cuda.is_available() else "cpu"


def _byte_type() -> Any:
    import torch

    return torch.uint8


def _open_model(model: str, device: str) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ModuleNotFoundError:
        raise need("sentence-transformers", "sentence") from None
    try:
        try:
            return SentenceTransformer(model, device=device, local_files_only=True).eval()
        except (OSError, ValueError):
            if Path(model).exists():
                raise
            log.info("model %s is not on this machine; downloading it", model)
            return SentenceTransformer(model, device=device).eval()
    except Exception as error:  # the library raises many kinds, down to those of its HTTP client
        raise UsageError(
            f"the sentence model {model!r} cannot be opened ({type(error).__name__}: "
            f"{str(error)[:200]}); set encoder.model to a folder of a saved model or to "
            "the name of a model that was downloaded before, or set encoder.name to lsa"
        ) from None
