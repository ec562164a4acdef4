"""A tiny release that takes new items: a real encoder and tokenizer, canary set and reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from tesserec.artifacts import Artifact, build
from tesserec.config import RunConfig, change_config, to_dict
from tesserec.data.content import content_hashes
from tesserec.data.listing import HASH
from tesserec.data.schemas import INTERACTIONS, ITEMS
from tesserec.encoders import ContentEncoder
from tesserec.encoders.lsa import LSA
from tesserec.encoders.precomputed import Precomputed
from tesserec.encoders.whitening import Whitening
from tesserec.release import build_release, promote
from tesserec.retokenization.canary import write_canary, write_canary_codes
from tesserec.retokenization.reference import FOLDER, REFERENCE, make_reference
from tesserec.tokenizers.opq import OPQ
from tests.fakes import release as fake

DIM, SIZE = 8, 16
WORDS = (
    "red", "blue", "green", "warm", "cold", "small", "large", "round", "soft", "plain", "old", "new"
)  # fmt: skip


def row(number: int, **values: Any) -> dict[str, Any]:
    """An item of the shop as its source tells it, made of a few words."""
    a, b, c = (WORDS[(number * step + number // 12) % 12] for step in (1, 5, 7))
    facts: dict[str, Any] = dict.fromkeys(ITEMS.names)
    facts |= {"item_id": fake.item_id(number), "title": f"{a} {b} {c}", "listed_at": 1000}
    facts |= {"categories": [f"Shop > C{number % 6}"], "price": float(number % 7)}
    return facts | values


def source_rows(count: int = fake.ITEMS) -> list[dict[str, Any]]:
    return [row(number) for number in range(count)]


def items_table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=ITEMS)


def write_source(folder: Path, rows: list[dict[str, Any]]) -> None:
    """`items.parquet` of these rows, and one interaction."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(items_table(rows), folder / "items.parquet")
    event = {"user_id": "U1", "item_id": fake.item_id(0), "timestamp": 5, "position": 0}
    events = pa.Table.from_pylist([event | {"event_type": "interaction"}], schema=INTERACTIONS)
    pq.write_table(events, folder / "interactions.parquet")


def stock_release(
    workdir: Path, data: Path, *, model: str = "rpg", vectors: str = "", config: bool = True
) -> str:
    """Build and promote a release of the 60 items in `data`, which is written.

    Args:
        vectors: name of a file with a vector an item, in `data`; "": the texts are encoded.
    """
    rows = source_rows()
    write_source(data, rows)
    settings = _settings(data, vectors)
    made = fake.artifacts(workdir, model=model)
    made["features"] = _made(workdir, "features", lambda folder: _features(folder, rows))
    encoder = _encoder(rows, vectors)
    made["vectors"] = _made(workdir, "vectors", lambda f: _vectors(f, encoder, rows), vectors)
    x = np.load(made["vectors"].file("vectors.npy"))
    home = made["vectors"].file("encoder")
    made["codes"] = _made(workdir, "codes", lambda folder: _codes(folder, x, home), vectors)
    release = build_release(
        workdir,
        features=made["features"],
        store=made["store"],
        coded=(made["vectors"], made["codes"]),
        model=made["model"],
        model_name=model,
        metrics=made["metrics"],
        config=to_dict(settings) if config else None,
    )
    promote(workdir, release)
    return release


def given_vectors(rows: list[dict[str, Any]]) -> np.ndarray:
    """float32 [n, 12] as another program may have made them of the titles."""
    found = [[(f" {r['title']} ").count(f" {word} ") for word in WORDS] for r in rows]
    return np.array(found, np.float32).reshape(len(rows), len(WORDS))


def _settings(data: Path, vectors: str) -> RunConfig:
    encoder: dict[str, Any] = {"name": "lsa", "lsa_dim": 12, "pca_dim": DIM}
    if vectors:
        encoder |= {"name": "precomputed", "vectors": vectors}
    tree = to_dict(RunConfig())
    tree["encoder"] |= encoder
    tree["data"] |= {"source": "tesserec", "path": str(data)}
    tree["tokenizer"] |= {"digits": fake.DIGITS, "codebook_size": SIZE, "iterations": 0}
    return change_config(tree, [])


def _made(workdir: Path, kind: str, make: Any, variant: str = "") -> Artifact:
    params = {"stock": variant}
    return build(workdir, kind, params=params, parents=(), version=1, make=make)[0]


def _features(folder: Path, rows: list[dict[str, Any]]) -> None:
    table = items_table(rows).append_column("row", pa.array(range(len(rows)), pa.int64()))
    stats = {"item_id": [r["item_id"] for r in rows], "count_30d": [1] * len(rows)}
    tables = {"item_profile": table, "item_stats": pa.table(stats)}
    for name, one in tables.items():
        (folder / name).mkdir()
        pq.write_table(one, folder / name / "part-0.parquet")


def _encoder(rows: list[dict[str, Any]], vectors: str) -> ContentEncoder:
    ids = [r["item_id"] for r in rows]
    kind: Any = Precomputed(given_vectors(rows), ids) if vectors else LSA(12, 1)
    encoder = ContentEncoder(kind, Whitening(DIM))
    encoder.fit(items_table(rows))
    return encoder


def _vectors(folder: Path, encoder: ContentEncoder, rows: list[dict[str, Any]]) -> None:
    items = items_table(rows)
    for name in ("vectors.npy", REFERENCE):  # it has no other encoder as its reference
        np.save(folder / name, encoder.encode(items))
    pq.write_table(items.select(["item_id"]), folder / "item_ids.parquet")
    encoder.save(folder / "encoder")
    write_canary(folder / "encoder", items, encoder)


def _codes(folder: Path, vectors: np.ndarray, encoder: Path) -> None:
    tokenizer = OPQ(fake.DIGITS, SIZE, 0)
    tokenizer.fit(vectors, np.random.default_rng(1))
    held = np.arange(2, len(vectors), 5)
    reference = OPQ(fake.DIGITS, SIZE, 0)
    reference.fit(np.delete(vectors, held, axis=0), np.random.default_rng(2))
    save_file({"codes": tokenizer.encode(vectors)}, folder / "codes.safetensors")
    flags = pa.array([True] * len(vectors))
    ids = pa.array([fake.item_id(number) for number in range(len(vectors))])
    pq.write_table(pa.table({"item_id": ids, "trained": flags}), folder / "item_ids.parquet")
    tokenizer.save(folder / "tokenizer")
    write_canary_codes(encoder, tokenizer, folder / "tokenizer")
    found = make_reference(reference, [fake.item_id(r) for r in held.tolist()], vectors[held])
    assert found is not None
    found.save(folder / "tokenizer" / FOLDER)


def hashes(rows: list[dict[str, Any]]) -> pa.Table:
    """The rows with `content`, as a listing has them."""
    table = items_table(rows)
    return table.append_column(HASH, content_hashes(table))
