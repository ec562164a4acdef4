"""Artefacts as flat pandas frames for the suites: ids, numbers and flags, never lists.

Great Expectations holds a frame in memory, so a table of more than MAX_ROWS is read as every n-th
batch of rows: a part that is the same each time, and in which a user's or an item's rows stay apart
from each other only if they lie in different batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.dataset as ds

from tesserec.artifacts import Artifact
from tesserec.data.schemas import INTERACTIONS, ITEMS

if TYPE_CHECKING:
    import pandas as pd

pc: Any = pyarrow.compute  # its functions are made at run time; no type checker knows them
MAX_ROWS = 2_000_000
BATCH = 65_536


def raw_frames(raw: Artifact) -> dict[str, pd.DataFrame]:
    """`interactions` (with `known_item`) and `items` (categories as one string)."""
    items = _table(raw.file("items"), ITEMS.names)
    interactions = _table(raw.file("interactions"), INTERACTIONS.names)
    if "item_id" in interactions.column_names:
        known = _all_ids(raw.file("items"))
        flag = pc.is_in(interactions["item_id"].cast(pa.string()), value_set=known)
        interactions = interactions.append_column("known_item", flag)
    return {"interactions": _pandas(interactions), "items": _pandas(items)}


def feature_frames(features: Artifact) -> dict[str, pd.DataFrame]:
    """`sequences`, `user_history`, `item_profile`, `item_stats`; lists as lengths and flags."""
    stats = _table(features.file("item_stats"), None)
    profile = _table(features.file("item_profile"), ["item_id", "row", "listed_at"])
    return {
        "sequences": _pandas(
            _table(
                features.file("sequences"), ["user_id", "item_ids", "timestamps"], _sequence_facts
            )
        ),
        "user_history": _pandas(
            _table(
                features.file("user_history"),
                ["user_id", "event_timestamp", "item_ids", "timestamps", "seen_items"],
                _history_facts,
            )
        ),
        "item_profile": _pandas(profile),
        "item_stats": _pandas(_plain_times(stats)),
    }


def code_frames(vectors: Artifact, codes: Artifact) -> tuple[dict[str, Any], dict[str, Any]]:
    """Frames `vectors`, `codes`, `codebooks`, and the settings of their suites."""
    import pandas as pd
    import pyarrow.parquet as pq
    from safetensors.numpy import load_file

    matrix = np.load(vectors.file("vectors.npy"), mmap_mode="r", allow_pickle=False)
    table = load_file(codes.file("codes.safetensors"))["codes"]
    quality = codes.read_json("quality.json")
    size = int(quality["codebook_size"])
    ids = pq.read_table(vectors.file("item_ids.parquet"))["item_id"].to_pandas()
    coded = pq.read_table(codes.file("item_ids.parquet"))["item_id"].to_pandas()
    norms, finite = _norms(matrix)
    frames = {
        "vectors": pd.DataFrame({"item_id": ids, "finite": finite, "norm": norms}),
        "codes": pd.DataFrame({"item_id": coded, **code_facts(table)}),
        "codebooks": pd.DataFrame(codebook_facts(table, int(quality.get("centres", size)))),
        "quality": pd.DataFrame([quality_facts(quality)]).astype(float),
    }
    shape = {"digits": table.shape[1], "codebook_size": size, "items": len(table)}
    settings = {"vectors": {"items": len(table)}, "codes": shape, "codebooks": shape}
    return frames, settings


def quality_facts(quality: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers of quality.json that the suite looks at; None where they could not be taken."""
    errors, near = quality["reconstruction_error"], quality["neighbours"]
    known = near["same_leaf"] is not None and near["chance"] is not None
    return {
        "error_training": errors["training_items"],
        "error_held_out": errors["held_out"],
        "neighbour_gain": near["same_leaf"] - near["chance"] if known else None,
    }


def code_facts(table: np.ndarray) -> dict[str, Any]:
    """Per row of [N, m]: sid_key (`12-7-33`), digits, lowest, highest, others (with its SID)."""
    text = table.astype(str)
    keys = text[:, 0].astype(object)
    for digit in range(1, table.shape[1]):
        keys = keys + "-" + text[:, digit].astype(object)
    _, group, sizes = np.unique(table, axis=0, return_inverse=True, return_counts=True)
    return {
        "sid_key": keys,
        "digits": np.full(len(table), table.shape[1]),
        "lowest": table.min(axis=1).astype(np.int64),
        "highest": table.max(axis=1).astype(np.int64),
        "others": sizes[group.reshape(-1)] - 1,
    }


def codebook_facts(table: np.ndarray, size: int) -> dict[str, Any]:
    """Per digit of [N, m]: codes used; use and entropy as shares of what N items allow."""
    possible = max(1, min(size, len(table)))
    used, entropy = [], []
    for digit in range(table.shape[1]):
        counts = np.bincount(table[:, digit].astype(np.int64))
        share = counts[counts > 0] / len(table)
        used.append(len(share))
        bits = float((share * np.log2(1 / share)).sum())
        entropy.append(bits / max(float(np.log2(possible)), 1e-9))
    return {
        "digit": np.arange(table.shape[1]),
        "used": used,
        "utilisation": np.array(used) / possible,
        "entropy": entropy,
    }


def _norms(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    norms = np.empty(len(matrix))
    finite = np.empty(len(matrix), dtype=bool)
    for start in range(0, len(matrix), BATCH):
        block = np.asarray(matrix[start : start + BATCH], dtype=np.float64)
        norms[start : start + BATCH] = np.linalg.norm(block, axis=1)
        finite[start : start + BATCH] = np.isfinite(block).all(axis=1)
    return norms, finite


def _all_ids(items: Path) -> pa.Array:
    """Every item id, however many items there are: none may pass for unknown."""
    dataset = _dataset(items)
    if "item_id" not in dataset.schema.names:
        return pa.array([], pa.string())
    return pc.unique(dataset.to_table(columns=["item_id"])["item_id"].cast(pa.string()))


def _dataset(folder: Path) -> Any:
    return ds.dataset(sorted(str(p) for p in folder.rglob("*.parquet")), format="parquet")


def _table(
    folder: Path,
    columns: Sequence[str] | None,
    facts: Callable[[pa.RecordBatch], pa.RecordBatch] | None = None,
) -> pa.Table:
    """The named columns that are there (a suite notices a missing one), or `facts` of them."""
    dataset = _dataset(folder)
    names = [c for c in columns if c in dataset.schema.names] if columns else None
    batches = [facts(b) if facts else b for b in _batches(dataset, names)]
    if not batches:
        empty = dataset.schema.empty_table().select(names or dataset.schema.names)
        batches = [facts(b) if facts else b for b in [_one_batch(empty)]]
    return pa.Table.from_batches(batches)


def _batches(dataset: Any, names: list[str] | None) -> Iterator[pa.RecordBatch]:
    step = max(1, -(-dataset.count_rows() // MAX_ROWS))
    batches = dataset.to_batches(columns=names, batch_size=BATCH)
    for number, batch in enumerate(batches):
        if number % step == 0 and batch.num_rows:
            yield batch


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {name: [] for name in table.column_names}, schema=table.schema
    )


def _sequence_facts(batch: pa.RecordBatch) -> pa.RecordBatch:
    """user_id, length, aligned, ordered; of the columns that are there."""
    out: dict[str, Any] = {}
    if "user_id" in batch.schema.names:
        out["user_id"] = batch["user_id"]
    if "item_ids" in batch.schema.names:
        out["length"] = _lengths(batch["item_ids"])
    if {"item_ids", "timestamps"} <= set(batch.schema.names):
        out["aligned"] = _lengths(batch["timestamps"]) == out["length"]
        out["ordered"] = _ordered(batch["timestamps"])
    return pa.RecordBatch.from_pydict(out)


def _history_facts(batch: pa.RecordBatch) -> pa.RecordBatch:
    """user_id, event_timestamp (s), length, aligned, seen, before_cut; as far as there."""
    names = set(batch.schema.names)
    facts = _sequence_facts(batch)
    out = {n: facts[n] for n in ("user_id", "length", "aligned") if n in facts.schema.names}
    if "event_timestamp" in names:
        cut = _seconds(batch["event_timestamp"])
        out["event_timestamp"] = cut
        if "timestamps" in names:
            latest = _latest(batch["timestamps"])
            out["before_cut"] = latest < np.asarray(cut.fill_null(0))
    if "seen_items" in names:
        out["seen"] = _lengths(batch["seen_items"])
    return pa.RecordBatch.from_pydict(out)


def _lengths(lists: pa.Array) -> np.ndarray:
    return np.asarray(pc.fill_null(pc.list_value_length(lists), 0), dtype=np.int64)


def _ordered(lists: pa.Array) -> np.ndarray:
    """Whether no value of a list lies below the one before it."""
    values, owner = _flat(lists)
    ordered = np.ones(len(lists), dtype=bool)
    back = (np.diff(values) < 0) & (owner[1:] == owner[:-1])
    ordered[owner[1:][back]] = False
    return ordered


def _latest(lists: pa.Array) -> np.ndarray:
    values, owner = _flat(lists)
    latest = np.full(len(lists), np.iinfo(np.int64).min)
    np.maximum.at(latest, owner, values)
    return latest


def _flat(lists: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    values = np.asarray(pc.fill_null(pc.list_flatten(lists), 0), dtype=np.int64)
    return values, np.asarray(pc.list_parent_indices(lists), dtype=np.int64)


def _seconds(times: pa.Array) -> pa.Array:
    """Timestamps of any unit as whole seconds."""
    if not pa.types.is_timestamp(times.type):
        return times.cast(pa.int64())
    micros = times.cast(pa.timestamp("us", times.type.tz)).cast(pa.int64())
    return pc.divide(micros, 1_000_000)


def _plain_times(table: pa.Table) -> pa.Table:
    for number, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            seconds = _seconds(table[field.name].combine_chunks())
            table = table.set_column(number, field.name, seconds)
    return table


def _pandas(table: pa.Table) -> pd.DataFrame:
    """A frame without lists: a list of strings becomes one string."""
    for number, field in enumerate(table.schema):
        if pa.types.is_list(field.type) or pa.types.is_large_list(field.type):
            joined = pc.binary_join(table[field.name].cast(pa.list_(pa.string())), " | ")
            table = table.set_column(number, field.name, joined)
    return table.to_pandas()
