"""A release of many generated items that takes new ones: vectors of a mixture, a real tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from tesserec.artifacts import Artifact, build
from tesserec.config import RunConfig, change_config, to_dict
from tesserec.data.schemas import ITEMS
from tesserec.encoders import ContentEncoder
from tesserec.encoders.precomputed import Precomputed
from tesserec.encoders.whitening import Whitening
from tesserec.retokenization.canary import write_canary, write_canary_codes
from tesserec.retokenization.reference import FOLDER, make_reference
from tesserec.tokenizers.opq import OPQ

DIM, DIGITS, SIZE, KINDS = 128, 32, 256, 2000
FITTED, HELD = 20_000, 2_000  # items that the tokenizers learn of, and that one of them never sees
BLOCK = 50_000
START = 1_700_000_000


def million(workdir: Path, feed: Path, items: int, new: int) -> str:
    """A promoted release of so many items, and a `feed` of new ones with their vectors.

    Vectors are made by the block; codes are drawn, since what encoding costs hangs on their number.
    """
    from tesserec.release import build_release, promote

    note = workdir / "base"
    centres = np.random.default_rng(3).standard_normal((KINDS, DIM)).astype(np.float32)
    _feed(feed, new, centres)
    if note.is_file():
        return note.read_text()

    def made(kind: str, make: Callable[[Path], None]) -> Artifact:
        return build(workdir, kind, params={"n": items}, parents=(), version=1, make=make)[0]

    names = np.char.add("I", np.arange(items).astype(str))
    vectors = made("vectors", lambda folder: _vectors(folder, names, centres))
    codes = np.random.default_rng(2).integers(0, SIZE, (items, DIGITS), dtype=np.uint8)
    encoder = vectors.file("encoder")
    x = np.load(vectors.file("vectors.npy"), mmap_mode="r")[: FITTED + HELD]
    store = {"service": "recommend_v1", "schema_hash": "feed", "watermark": START, "rows": {}}
    release = build_release(
        workdir,
        features=made("features", lambda folder: _features(folder, names)),
        store=made("store", lambda folder: _json(folder / "store.json", store)),
        coded=(
            vectors,
            made("codes", lambda folder: _codes(folder, names, codes, np.asarray(x), encoder)),
        ),
        model=made("model", lambda folder: _model(folder, codes)),
        model_name="rpg",
        metrics=made("metrics", lambda folder: _json(folder / "metrics.json", {})),
        config=_config(feed),
    )
    promote(workdir, release)
    note.write_text(release)
    return release


def _config(feed: Path) -> dict[str, Any]:
    tree = to_dict(RunConfig())
    tree["data"] |= {"source": "tesserec", "path": str(feed)}
    tree["encoder"] |= {"name": "precomputed", "vectors": "vectors.npy", "pca_dim": DIM}
    tree["tokenizer"] |= {"digits": DIGITS, "codebook_size": SIZE}
    return to_dict(change_config(tree, []))


def _drawn(count: int, seed: int, centres: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng([seed, 4])
    found = centres[rng.integers(0, KINDS, count)]
    return found + 0.5 * rng.standard_normal((count, DIM), dtype=np.float32)


def _feed(folder: Path, new: int, centres: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = _items(np.char.add("N", np.arange(new).astype(str)))
    pq.write_table(table, folder / "items.parquet", compression="zstd")
    np.save(folder / "vectors.npy", _drawn(new, 10**6, centres))


def _items(names: np.ndarray) -> pa.Table:
    count = np.arange(len(names))
    columns = {field.name: pa.nulls(len(names), field.type) for field in ITEMS}
    columns["item_id"] = pa.array(names)
    columns["title"] = pa.array(np.char.add("Title of ", names))
    columns["brand"] = pa.array(np.char.add("B", (count % 1000).astype(str)))
    paths = pa.array(np.char.add("Shop > C", (count % 200).astype(str)))
    columns["categories"] = pa.ListArray.from_arrays(np.arange(len(names) + 1, dtype="i4"), paths)
    columns["listed_at"] = pa.array(np.full(len(names), START))
    return pa.table(columns, schema=ITEMS)


def _features(folder: Path, names: np.ndarray) -> None:
    profile = _items(names).append_column("row", pa.array(np.arange(len(names))))
    counts = pa.array(np.ones(len(names), np.int64))
    stats = pa.table({"item_id": pa.array(names), "count_30d": counts, "count_all": counts})
    for name, table in (("item_profile", profile), ("item_stats", stats)):
        (folder / name).mkdir()
        pq.write_table(table, folder / name / "part-0.parquet")


def _vectors(folder: Path, names: np.ndarray, centres: np.ndarray) -> None:
    shape = (len(names), DIM)
    path = folder / "vectors.npy"
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    for start in range(0, len(names), BLOCK):
        out[start : start + BLOCK] = _drawn(min(BLOCK, len(names) - start), start, centres)
    out.flush()
    whitening = Whitening(DIM)  # the generated ones are what it would give
    whitening.rank, whitening.explained = DIM, 1.0
    whitening.mean, whitening.weights = np.zeros(DIM), np.eye(DIM)
    encoder = ContentEncoder(Precomputed(out, names.tolist()), whitening)
    encoder.save(folder / "encoder")
    write_canary(folder / "encoder", _items(names[:FITTED]), encoder)
    pq.write_table(pa.table({"item_id": pa.array(names)}), folder / "item_ids.parquet")


def _codes(
    folder: Path, names: np.ndarray, codes: np.ndarray, x: np.ndarray, encoder: Path
) -> None:
    save_file({"codes": codes}, folder / "codes.safetensors")
    flags = pa.array(np.ones(len(names), bool))
    table = pa.table({"item_id": pa.array(names), "trained": flags})
    pq.write_table(table, folder / "item_ids.parquet")
    tokenizer, second = OPQ(DIGITS, SIZE, 0), OPQ(DIGITS, SIZE, 0)
    tokenizer.fit(x, np.random.default_rng(1))
    second.fit(x[HELD:], np.random.default_rng(2))
    tokenizer.save(folder / "tokenizer")
    write_canary_codes(encoder, tokenizer, folder / "tokenizer")
    reference = make_reference(second, names[:HELD].tolist(), x[:HELD])
    assert reference is not None
    reference.save(folder / "tokenizer" / FOLDER)


def _model(folder: Path, codes: np.ndarray) -> None:
    from tesserec.models.rpg import RPG, Shape

    RPG(Shape(digits=DIGITS, codebook_size=SIZE), codes, seed=1).save(folder)


def _json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
