from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tesserec.encoders import ContentEncoder
from tesserec.encoders.lsa import LSA
from tesserec.encoders.whitening import Whitening
from tesserec.errors import ArtifactError

MakeItems = Callable[[list[dict[str, Any]]], pa.Table]


def fitted(items: pa.Table, dim: int = 16) -> LSA:
    encoder = LSA(dim, seed=3)
    encoder.fit(items)
    return encoder


def test_equal_words_lie_nearer(make_items: MakeItems) -> None:
    titles = ["red nail polish", "blue nail polish", "dish soap lemon", "dish soap rose"]
    items = make_items([{"title": t} for t in titles])
    v = fitted(items, 4).encode(items)
    assert v[0] @ v[1] > v[0] @ v[2] and v[2] @ v[3] > v[1] @ v[2]


def test_fit_is_reproducible(shop: pa.Table) -> None:
    assert np.array_equal(fitted(shop).encode(shop), fitted(shop).encode(shop))


def test_batches_and_order_do_not_matter(shop: pa.Table) -> None:
    encoder = fitted(shop)
    whole = encoder.encode(shop)
    order = np.random.default_rng(0).permutation(shop.num_rows)
    shuffled = shop.take(order)
    parts = [encoder.encode(shuffled.slice(i, 7)) for i in range(0, shop.num_rows, 7)]
    assert np.array_equal(np.concatenate(parts), whole[order])


def test_reload_gives_equal_vectors(shop: pa.Table, tmp_path: Path) -> None:
    encoder = fitted(shop)
    encoder.save(tmp_path)
    assert np.array_equal(LSA.load(tmp_path).encode(shop), encoder.encode(shop))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "encoder.json",
        "lsa.safetensors",
        "vocabulary.json",
    ]


@pytest.mark.parametrize(
    "titles",
    [
        ["only one"],
        ["one thing", "two things", "three things"],
        ["same text"] * 5,
        [None, None, None],
        ["a", ".", ""],  # no word of two letters
        [None, "one word", None],
    ],
)
def test_tiny_catalogues(titles: list[str | None], make_items: MakeItems, tmp_path: Path) -> None:
    items = make_items([{"title": t} for t in titles])
    encoder = ContentEncoder(LSA(64), Whitening(32))
    encoder.fit(items)
    vectors = encoder.encode(items)
    assert vectors.shape == (len(titles), 32) and vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    encoder.save(tmp_path)
    assert np.array_equal(ContentEncoder.load(tmp_path).encode(items), vectors)


def test_an_item_without_known_words_is_the_zero_vector(
    shop: pa.Table, make_items: MakeItems
) -> None:
    assert not fitted(shop).encode(make_items([{}, {"title": "unheard of"}])).any()


def test_files_that_do_not_belong_together_are_refused(shop: pa.Table, tmp_path: Path) -> None:
    fitted(shop).save(tmp_path)
    (tmp_path / "vocabulary.json").write_text(json.dumps(["one"]))
    with pytest.raises(ArtifactError, match="1 terms"):
        LSA.load(tmp_path)


def test_unknown_and_missing_encoders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no encoder\.json"):
        ContentEncoder.load(tmp_path)
    (tmp_path / "encoder.json").write_text('{"name": "magic"}')
    with pytest.raises(ArtifactError, match="magic"):
        ContentEncoder.load(tmp_path)
