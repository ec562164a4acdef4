from __future__ import annotations

import json

import numpy as np
import pytest

from tesserec.tokenizers.opq import OPQ
from tesserec.tokenizers.quality import (
    collisions,
    neighbour_agreement,
    quality,
    reconstruction_error,
    usage,
)


def test_usage_of_a_full_and_of_a_collapsed_digit() -> None:
    codes = np.stack([np.arange(4000) % 8, np.zeros(4000)], axis=1).astype(np.uint8)
    full, collapsed = usage(codes, 8)
    assert full["utilisation"] == 1 and full["largest_share"] == 0.125
    assert full["normalised_entropy"] == pytest.approx(1)
    assert collapsed == {
        "utilisation": 0.125,
        "entropy_bits": 0,
        "normalised_entropy": 0,
        "largest_share": 1,
    }


def test_entropy_is_corrected_for_few_items() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 64, (400, 1)).astype(np.uint8)  # true entropy 6 bits
    share = np.bincount(codes[:, 0], minlength=64) / 400
    plain = -(share[share > 0] * np.log2(share[share > 0])).sum()
    corrected = usage(codes, 64)[0]["entropy_bits"]
    assert abs(6 - corrected) < abs(6 - plain)


def test_collisions() -> None:
    codes = np.array([[1, 1], [1, 1], [1, 1], [2, 1]], np.uint8)
    assert collisions(codes) == {
        "unique_tuples": 2,
        "items_in_shared_tuples": 3,
        "share": 0.5,
        "largest_bucket": 3,
    }


def test_reconstruction_error_is_relative_to_the_variance_of_all_rows() -> None:
    x = np.random.default_rng(0).standard_normal((500, 4))
    rows = np.arange(500)
    assert reconstruction_error(x, x, rows) == 0
    mean = np.repeat(x.mean(axis=0, keepdims=True), 500, axis=0)
    assert reconstruction_error(x, mean, rows) == pytest.approx(1)
    assert reconstruction_error(x, x[:0], rows[:0]) is None
    assert reconstruction_error(np.ones((3, 2)), np.ones((3, 2)), np.arange(3)) is None


def test_neighbours_in_the_same_leaf_against_chance() -> None:
    leaf = np.arange(200) % 10
    codes = np.stack([leaf, leaf, np.arange(200)], axis=1).astype(np.uint8)
    paths = [[f"A > {n}"] for n in leaf]
    found = neighbour_agreement(codes, paths, np.random.default_rng(0))
    assert found["queries"] == 200 and found["same_leaf"] == 1
    assert found["chance"] == pytest.approx(19 / 199, abs=0.01)
    shuffled = np.random.default_rng(1).permutation(codes)
    other = neighbour_agreement(shuffled, paths, np.random.default_rng(0))
    assert other["same_leaf"] == pytest.approx(0.1, abs=0.08)


@pytest.mark.parametrize("paths", [[None] * 5, [[]] * 5, [["A"], None, None, None, None]])
def test_no_categories_is_no_figure(paths: list[list[str] | None]) -> None:
    codes = np.zeros((5, 2), np.uint8)
    found = neighbour_agreement(codes, paths, np.random.default_rng(0))
    assert found == {"queries": 0, "same_leaf": None, "chance": None}


def test_held_out_error_is_above_the_training_error_and_the_table_is_json() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 8)).astype(np.float32)
    trained = np.arange(600) < 500
    tokenizer = OPQ(4, 64, 2)
    tokenizer.fit(x[trained], np.random.default_rng(1))
    held = np.sort(np.random.default_rng(2).permutation(500)[:50])
    rest = trained.copy()
    rest[held] = False
    reference = OPQ(4, 64, 2)
    reference.fit(x[rest], np.random.default_rng(2))
    table = quality(
        tokenizer.encode(x),
        x,
        trained,
        [None] * 600,
        tokenizer,
        np.random.default_rng(2),
        reference=reference,
        held=held,
    )
    errors = table["reconstruction_error"]
    assert errors["held_out_items"] == 50
    assert errors["training_items"] * 1.1 < errors["held_out"] < 1
    assert errors["training_items"] * 1.1 < errors["other_items"] < 1
    assert len(table["per_digit"]) == table["digits"] == 4
    json.dumps(table, allow_nan=False)


def test_one_item_has_a_table_too() -> None:
    x = np.zeros((1, 8), np.float32)
    tokenizer = OPQ(4, 64, 2)
    tokenizer.fit(x, np.random.default_rng(1))
    codes = tokenizer.encode(x)
    table = quality(codes, x, np.array([True]), [["A"]], tokenizer, np.random.default_rng(2))
    assert table["items"] == 1 and table["reconstruction_error"]["held_out"] is None
    json.dumps(table, allow_nan=False)
