"""Steps `encode` and `tokenize` on a shop of 60 items, written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tesserec.artifacts import Artifact, build
from tesserec.config import RunConfig, from_dict
from tesserec.data.schemas import SEQUENCES
from tesserec.encoders import ContentEncoder
from tesserec.errors import DataError, UsageError
from tesserec.steps import encode, tokenize
from tesserec.tokenizers import CodeTable, load_tokenizer

N = 60
WORDS = ["red", "blue", "nail", "polish", "soap", "dish", "rose", "mint", "cream", "brush"]


def config(**encoder: Any) -> RunConfig:
    return from_dict(
        {
            "encoder": {"lsa_dim": 16, "pca_dim": 8, **encoder},
            "tokenizer": {"digits": 4, "codebook_size": 8, "iterations": 2},
        }
    )


def profile(n: int = N, first_listed: int = 0) -> pa.Table:
    titles = [f"{WORDS[i % 10]} {WORDS[i % 7]} {WORDS[i % 3]}" for i in range(n)]
    return pa.table(
        {
            "item_id": [f"i{i}" for i in range(n)],
            "row": pa.array(range(n), pa.int64()),
            "title": titles,
            "categories": [[f"Shop > {i % 5}"] for i in range(n)],
            "listed_at": pa.array([first_listed + i for i in range(n)], pa.int64()),
        }
    )


def features(workdir: Path, items: pa.Table, *, cut: int | None = None, used: int = 50) -> Artifact:
    """Users of five events each, over the first `used` items; the profile lies in two parts."""

    def make(folder: Path) -> None:
        for name in ("item_profile", "sequences"):
            (folder / name).mkdir()
        pq.write_table(items.slice(len(items) // 2), folder / "item_profile" / "part-0.parquet")
        pq.write_table(items.slice(0, len(items) // 2), folder / "item_profile" / "part-1.parquet")
        rows = [
            {
                "user_id": f"u{u}",
                "item_ids": [f"i{(u * 3 + step) % used}" for step in range(5)],
                "timestamps": [10, 20, 30, 40, 50],
            }
            for u in range(40)
        ]
        table = pa.Table.from_pylist(rows, schema=SEQUENCES)
        pq.write_table(table, folder / "sequences" / "part-0.parquet")
        summary = {"cuts": {"train": cut, "watermark": 51}, "has_times": True}
        (folder / "summary.json").write_text(json.dumps(summary))

    params = {"n": len(items), "cut": cut, "used": used}
    return build(workdir, "features", params=params, parents=[], version=1, make=make)[0]


def files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def raw(workdir: Path, ids: list[str] | None = None) -> Artifact:
    def make(folder: Path) -> None:
        (folder / "vectors").mkdir()
        names = ids or []
        x = np.random.default_rng(0).standard_normal((len(names), 12)).astype(np.float32)
        np.save(folder / "vectors" / "vectors.npy", x)
        pq.write_table(pa.table({"item_id": names}), folder / "vectors" / "item_ids.parquet")

    return build(workdir, "raw", params={"ids": ids}, parents=[], version=1, make=make)[0]


def test_vectors_and_codes_follow_the_rows_of_the_profile(tmp_path: Path) -> None:
    parent = features(tmp_path, profile())
    vectors = encode.run(tmp_path, config(), raw(tmp_path), parent)
    x = np.load(vectors.file("vectors.npy"), allow_pickle=False)
    ids = pq.read_table(vectors.file("item_ids.parquet"))["item_id"].to_pylist()
    assert x.shape == (N, 8) and x.dtype == np.float32
    assert ids == [f"i{i}" for i in range(N)]
    assert vectors.read_json("summary.json")["fitted_on"] == N

    codes = tokenize.run(tmp_path, config(), vectors, parent)
    table = CodeTable.load(codes.path)
    assert table.item_ids == ids and table.codes.shape == (N, 4)
    # the saved encoder and tokenizer give the table's codes again
    saved = ContentEncoder.load(vectors.file("encoder"))
    again = load_tokenizer(codes.file("tokenizer")).encode(saved.encode(profile()))
    assert np.array_equal(again, table.codes)
    assert codes.read_json("quality.json")["items"] == N


def test_only_items_of_training_sequences_train_the_tokenizer(tmp_path: Path) -> None:
    parent = features(tmp_path, profile())
    vectors = encode.run(tmp_path, config(), raw(tmp_path), parent)
    table = CodeTable.load(tokenize.run(tmp_path, config(), vectors, parent).path)
    expected = {f"i{(u * 3 + step) % 50}" for u in range(40) for step in range(3)}
    assert {i for i, t in zip(table.item_ids, table.trained, strict=True) if t} == expected
    assert table.trained.sum() < N


def test_a_second_run_makes_the_same_bytes_and_a_third_returns_at_once(tmp_path: Path) -> None:
    hashes = []
    for name in ("one", "two"):
        workdir = tmp_path / name
        parent = features(workdir, profile())
        vectors = encode.run(workdir, config(), raw(workdir), parent)
        codes = tokenize.run(workdir, config(), vectors, parent)
        hashes.append((vectors.content_hash, codes.content_hash))
        before = codes.file("manifest.json").stat().st_mtime_ns
        assert tokenize.run(workdir, config(), vectors, parent).path == codes.path
        assert codes.file("manifest.json").stat().st_mtime_ns == before
    assert hashes[0] == hashes[1]


def test_items_listed_after_the_training_cut_change_nothing(tmp_path: Path) -> None:
    settings = config()
    kept = []
    for name, n in (("early", 55), ("late", N)):
        workdir = tmp_path / name
        parent = features(workdir, profile(n), cut=55)
        vectors = encode.run(workdir, settings, raw(workdir), parent)
        codes = tokenize.run(workdir, settings, vectors, parent)
        table = CodeTable.load(codes.path)
        kept.append(
            (
                [p.read_bytes() for p in files(vectors.file("encoder"))],
                [p.read_bytes() for p in files(codes.file("tokenizer"))],
                table.codes[:55].tobytes(),
            )
        )
    assert kept[0] == kept[1]


def test_an_item_of_unknown_listing_is_not_before_the_cut() -> None:
    items = profile(4).set_column(4, "listed_at", pa.array([1, None, 9, 3], pa.int64()))
    assert encode.listed_before(items, 5).tolist() == [True, False, False, True]
    assert encode.listed_before(items, None).all()
    with pytest.raises(DataError, match="no item was listed before the training cut 1"):
        encode.listed_before(items, 1)


def test_precomputed_vectors_are_joined_by_id(tmp_path: Path) -> None:
    settings = config(name="precomputed", vectors="v.npy")
    parent = features(tmp_path, profile())
    ids = [f"i{i}" for i in reversed(range(N))]
    vectors = encode.run(tmp_path, settings, raw(tmp_path, ids), parent)
    assert vectors.read_json("summary.json")["width"] == 12
    with pytest.raises(DataError, match=r"1 of 60 items have no vector.*'i59'"):
        encode.run(tmp_path, settings, raw(tmp_path, ids[1:]), parent)


def test_bad_settings_and_profiles_are_refused(tmp_path: Path) -> None:
    parent = features(tmp_path, profile())
    with pytest.raises(UsageError, match="'magic'; use one of lsa, sentence, precomputed"):
        encode.run(tmp_path, config(name="magic"), raw(tmp_path), parent)
    vectors = encode.run(tmp_path, config(), raw(tmp_path), parent)
    odd = from_dict({"encoder": {"pca_dim": 9}, "tokenizer": {"digits": 3}})
    with pytest.raises(UsageError, match="pca_dim 8 is not a multiple"):
        tokenize.run(tmp_path, odd, vectors, parent)
    with pytest.raises(UsageError, match="'magic'; use one of opq"):
        tokenize.run(tmp_path, from_dict({"tokenizer": {"name": "magic"}}), vectors, parent)
    gap = profile().set_column(1, "row", pa.array([*range(N - 1), N], pa.int64()))
    with pytest.raises(DataError, match="does not number its 60 items"):
        encode.run(tmp_path, config(), raw(tmp_path), features(tmp_path / "gap", gap))
    assert not list((tmp_path / "artifacts").glob(".tmp-*/manifest.json"))
