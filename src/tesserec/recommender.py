"""The one thing that serving and evaluation know: histories of item ids in, ranked item ids out.

Reads a release with numpy, torch, pyarrow and safetensors alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.numpy import load_file

from tesserec.artifacts import read_manifest
from tesserec.decoders import DECODERS, make
from tesserec.decoders.constraints import Constraints
from tesserec.decoders.exhaustive import Exhaustive
from tesserec.decoders.graph_files import GRAPH
from tesserec.decoders.scorers import VectorScorer
from tesserec.errors import ArtifactError
from tesserec.models.loading import Files, members, model_class, read_model

BATCH = 256  # histories in one pass of the model
Spent = Callable[[str, float], None]  # stage (model, decode), seconds
HISTORY = 1000  # seen items that count as seen (the online store keeps as many)


class Recommender:
    """A model, its code table if it has one, its items and a decoder."""

    def __init__(
        self,
        model: Any,
        codes: np.ndarray | None,
        item_ids: Sequence[str],
        items: pa.Table | None = None,
        *,
        decoder: Mapping[str, Any] | None = None,
        release_id: str = "",
    ) -> None:
        """`decoder`: a name and options, as of a run's section `decoder`; `saved`: a graph file."""
        if codes is not None and len(codes) != len(item_ids):
            raise ArtifactError(
                f"the code table has {len(codes)} rows, the item list {len(item_ids)}; "
                "they belong to different releases"
            )
        self.release_id = release_id
        self.item_ids = list(item_ids)
        self.items = items if items is not None else pa.table({"item_id": pa.array(item_ids)})
        self.row_of = {item: row for row, item in enumerate(self.item_ids)}
        self.codes = codes
        self._model = model.eval()
        self._model.freeze()
        self._decoder = make(**{"name": "auto", **(decoder or {})}, model=model, codes=codes)
        self._popularity = _popularity(self.items)

    @classmethod
    def of_parts(
        cls,
        model: Any,
        codes: np.ndarray | None,
        item_ids: Sequence[str],
        items: pa.Table | None = None,
        *,
        decoder: Mapping[str, Any] | None = None,
    ) -> Recommender:
        """A recommender of parts in memory, as the evaluation of a fresh model needs it."""
        return cls(model, codes, item_ids, items, decoder=decoder)

    @classmethod
    def load(cls, folder: Path) -> Recommender:
        """Open a release folder; its parts may lie in ancestors beside it.

        Raises:
            ArtifactError: the release is incomplete, its parts don't belong together, or it asks
                for a model or a decoder that this version doesn't have.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        parts, name = manifest.get("parts", {}), str(manifest.get("model", ""))
        needs_codes, decoder = model_class(name).needs_codes, _decoder(folder, manifest)
        codes = _codes(folder, manifest) if needs_codes else None
        items = pa.concat_tables(
            [
                pq.read_table(_part(folder, manifest, p))
                for p in _entries(parts, "items", "items/base-0000.parquet")
            ]
        )
        ids = items.column("item_id").to_pylist()
        model = read_model(name, _model_files(folder, manifest, name), codes, len(ids))
        release_id = str(manifest.get("release_id", folder.name))
        return cls(model, codes, ids, items, decoder=decoder, release_id=release_id)

    @property
    def model_name(self) -> str:
        return self._model.name

    @property
    def prefixes(self) -> bool:
        """Whether the best k are the first k of any longer ranking; not so of the graph's."""
        return getattr(self._decoder, "prefixes", True)

    def parts(self) -> dict[str, Recommender]:
        """Each part of a fusion as a recommender of its own; none of another model."""
        named = getattr(self._model, "named_parts", dict)()
        return {
            name: Recommender(
                part, self.codes if part.needs_codes else None, self.item_ids, self.items
            )
            for name, part in named.items()
        }

    # ---- asking ----

    def tells(self, rows: np.ndarray) -> bool:
        """Whether the model can tell anything from a history of these rows.

        Not from an empty one; and an identity model not from items that it was not trained on.
        """
        known = getattr(self._model, "known", None)
        return len(rows) > 0 and (known is None or bool(known()[rows].any()))

    def rows(self, history: Sequence[str]) -> np.ndarray:
        """Item ids -> rows, int64; ids that the release doesn't know are left out."""
        known = [self.row_of[item] for item in history if item in self.row_of]
        return np.array(known, dtype=np.int64)

    def recommend(
        self,
        histories: Sequence[Sequence[str]],
        k: int,
        constraints: Constraints | None = None,
        *,
        spent: Spent | None = None,
    ) -> tuple[list[list[str]], list[np.ndarray]]:
        """The k best items after each history (item ids, oldest first) and their scores.

        Fewer than k where the constraints leave fewer. A history from which the model can't tell
        anything is answered by `popular` under the same constraints. `spent` is told the seconds
        of each stage.
        """
        rows, scores = self.recommend_rows(
            [self.rows(h) for h in histories], k, constraints, spent=spent
        )
        valid = [r >= 0 for r in rows]
        ids = [[self.item_ids[i] for i in r[v].tolist()] for r, v in zip(rows, valid, strict=True)]
        return ids, [s[v] for s, v in zip(scores, valid, strict=True)]

    def recommend_rows(
        self,
        histories: Sequence[np.ndarray],
        k: int,
        constraints: Constraints | None = None,
        *,
        spent: Spent | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """`recommend` in item rows: int64 [B, k] padded with -1, scores float32 [B, k]."""
        rules = constraints or Constraints()
        rules.check(len(histories), len(self.item_ids))
        rows = np.full((len(histories), k), -1, dtype=np.int64)
        scores = np.full((len(histories), k), -np.inf, dtype=np.float32)
        asked = [i for i, h in enumerate(histories) if self.tells(h)]
        for start in range(0, len(asked), BATCH):
            users = asked[start : start + BATCH]
            began = time.perf_counter()
            state = self._model.state([histories[u] for u in users])
            between = time.perf_counter()
            rows[users], scores[users] = self._decoder.rank(state, k, rules.of(users))
            if spent is not None:
                spent("model", between - began)
                spent("decode", time.perf_counter() - between)
        rest = sorted(set(range(len(histories))).difference(asked))
        if rest:
            rows[rest], scores[rest] = self._popular_rows(k, rules.of(rest), len(rest))
        return rows, scores

    def warm(self) -> None:
        """Compile what model and decoder compile, so that no request waits for it."""
        self._model.warm()
        warm = getattr(self._decoder, "warm", None)
        if warm is not None:
            warm()

    def popular(
        self, k: int, constraints: Constraints | None = None
    ) -> tuple[list[str], np.ndarray]:
        """The k most popular allowed items (events of the last 30 days, then of all time)."""
        rows, scores = self._popular_rows(k, constraints or Constraints(), 1)
        valid = rows[0] >= 0
        return [self.item_ids[i] for i in rows[0][valid].tolist()], scores[0][valid]

    def target_ranks(
        self, histories: Sequence[np.ndarray], targets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ranks of one target row per history, seen items kept and dropped.

        An empty history gets rank 0: it isn't this model that would answer it.
        """
        kept = np.zeros(len(histories), dtype=np.int64)
        dropped = np.zeros(len(histories), dtype=np.int64)
        asked = [i for i, h in enumerate(histories) if len(h)]
        for start in range(0, len(asked), BATCH):
            users = asked[start : start + BATCH]
            part = [histories[u] for u in users]
            state = self._model.state(part)
            seen = [seen_rows(h) for h in part]
            kept[users], dropped[users] = self._decoder.target_ranks(state, targets[users], seen)
        return kept, dropped

    def _popular_rows(
        self, k: int, rules: Constraints, users: int
    ) -> tuple[np.ndarray, np.ndarray]:
        everyone = torch.ones(users, 1)
        scorer = VectorScorer(torch.from_numpy(self._popularity)[:, None])
        return Exhaustive(scorer).rank(everyone, k, rules)


def seen_rows(history: np.ndarray, limit: int = HISTORY) -> np.ndarray:
    """The distinct items of a history, at most the `limit` most recent ones."""
    _, first = np.unique(history[::-1], return_index=True)
    return history[::-1][np.sort(first)[:limit]]


def _popularity(items: pa.Table) -> np.ndarray:
    """float32 [N]: events of the last 30 days, and as the fraction events of all time."""
    zeros = np.zeros(items.num_rows)

    def column(name: str) -> np.ndarray:
        if name not in items.column_names:
            return zeros
        filled = items.column(name).combine_chunks().fill_null(0)
        return np.asarray(filled.to_numpy(zero_copy_only=False), dtype=np.float64)

    recent, ever = column("count_30d"), column("count_all")
    return (recent + ever / (ever.max(initial=0.0) + 1.0)).astype(np.float32)


def _entries(parts: Mapping[str, Any], name: str, default: str) -> list[Any]:
    return list(parts.get(name) or [{"path": default}])


def _part(folder: Path, manifest: Mapping[str, Any], entry: Mapping[str, Any]) -> Path:
    """Where a part lies: in this release, or in the ancestor that it names."""
    release = entry.get("release")
    home = folder if release in (None, manifest.get("release_id")) else folder.parent / str(release)
    path = home / entry["path"]
    if not path.exists():
        raise ArtifactError(f"release {folder} refers to {path}, which isn't there; run verify")
    return path


def _codes(folder: Path, manifest: Mapping[str, Any]) -> np.ndarray:
    entries = _entries(manifest.get("parts", {}), "codes", "codes/base-0000.safetensors")
    return np.concatenate([load_file(_part(folder, manifest, p))["codes"] for p in entries])


def _model_files(folder: Path, manifest: Mapping[str, Any], name: str) -> Files:
    """The files of this release's model and of its parts; each may lie in another ancestor."""
    home, entries = folder / "models", manifest.get("parts", {}).get("models") or {}
    found = {m: {file: home / m / file for file in files} for m, files in members(name).items()}
    for member in found:
        for entry in entries.get(member) or []:
            found[member][Path(entry["path"]).name] = _part(folder, manifest, entry)
    return found


def _decoder(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Name and options of the release's decoder; refuses one that this version doesn't have."""
    entries = manifest.get("parts", {}).get("decoder") or []
    paths = {Path(e["path"]).name: _part(folder, manifest, e) for e in entries}
    found: dict[str, Any] = {}
    if "decoder.json" in paths:
        found = _decoder_json(paths["decoder.json"])
    if found.get("name", "auto") not in ("auto", *DECODERS):
        raise ArtifactError(
            f"release {folder} asks for decoder {found['name']!r}, this version has "
            f"{', '.join(DECODERS)}; use the version that made it"
        )
    if found.get("name") == "graph":
        if GRAPH not in paths:
            raise ArtifactError(f"release {folder} has no {GRAPH} for its decoder; build it anew")
        found["saved"] = paths[GRAPH]
    return found


def _decoder_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{path} is no readable JSON ({error}); run `tesserec release verify`, and build the "
            "release anew"
        ) from None
    if not isinstance(found, dict):
        raise ArtifactError(
            f"{path} holds no name and options of a decoder; build the release anew"
        )
    return found
