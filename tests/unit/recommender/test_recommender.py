"""The recommender: item ids in and out, rules, popular answers, releases, and few imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import save_file

from tesserec.artifacts import write_manifest
from tesserec.decoders.constraints import Constraints, pack_bits
from tesserec.errors import ArtifactError, TesserecError
from tesserec.models.rpg import RPG, Shape
from tesserec.recommender import Recommender

ITEMS = 40


def parts(items: int = ITEMS) -> tuple[RPG, np.ndarray, list[str], pa.Table]:
    torch.set_num_threads(1)
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 16, (items, 4)).astype(np.uint8)
    shape = Shape(digits=4, codebook_size=16, dim=16, heads=2, ffn=16)
    ids = [f"i{row}" for row in range(items)]
    table = pa.table(
        {
            "item_id": ids,
            "count_30d": pa.array(rng.integers(0, 4, items)),
            "count_all": pa.array(rng.integers(0, 90, items)),
        }
    )
    return RPG(shape, codes, seed=1), codes, ids, table


@pytest.fixture
def recommender() -> Recommender:
    return Recommender.of_parts(*parts())


def test_histories_are_answered_together_as_alone(recommender: Recommender) -> None:
    rng = np.random.default_rng(2)
    histories = [[f"i{r}" for r in rng.integers(0, ITEMS, n)] for n in (1, 4, 70, 0, 9)]
    ids, scores = recommender.recommend(histories, 7)
    for history, answer, score in zip(histories, ids, scores, strict=True):
        alone, alone_scores = recommender.recommend([history], 7)
        assert alone[0] == answer
        np.testing.assert_allclose(alone_scores[0], score, rtol=1e-4)
        assert (np.diff(score) <= 0).all()


def test_unknown_items_are_ignored(recommender: Recommender) -> None:
    known = recommender.recommend([["i3", "i4"]], 5)
    mixed = recommender.recommend([["nope", "i3", "", "i4"]], 5)
    assert mixed[0] == known[0]


def test_without_a_known_item_the_popular_ones_answer(recommender: Recommender) -> None:
    popular, scores = recommender.popular(ITEMS)
    columns = [recommender.items[c].to_pylist() for c in ("count_30d", "count_all")]
    by_hand = sorted(range(ITEMS), key=lambda r: (-columns[0][r], -columns[1][r], r))
    assert popular == [f"i{r}" for r in by_hand]
    assert (np.diff(scores) <= 0).all()
    deny = [np.array([by_hand[0]]), None, np.array([5])]
    ids, _ = recommender.recommend([[], ["zz"], ["i1"]], 3, Constraints(deny=deny))
    assert ids[0] == popular[1:4]
    assert ids[1] == popular[:3]
    assert ids[2] == recommender.recommend([["i1"]], 3, Constraints(deny=[np.array([5])]))[0][0]


def test_fewer_than_k(recommender: Recommender) -> None:
    only = Constraints(allow=[np.array([2, 9])])
    ids, scores = recommender.recommend([["i1"]], 5, only)
    assert sorted(ids[0]) == ["i2", "i9"]
    assert len(scores[0]) == 2
    nothing = Constraints(allowed=pack_bits(np.zeros(ITEMS, dtype=bool)))
    assert recommender.recommend([["i1"]], 5, nothing)[0] == [[]]


def test_target_ranks_are_those_of_recommend(recommender: Recommender) -> None:
    rng = np.random.default_rng(3)
    histories = [rng.integers(0, ITEMS, n) for n in (1, 5, 60, 0)]
    targets = np.array([7, 8, 9, 1])
    kept, dropped = recommender.target_ranks(histories, targets)
    everything, _ = recommender.recommend_rows(histories, ITEMS)
    unseen, _ = recommender.recommend_rows(histories, ITEMS, Constraints(deny=histories))
    for line in range(3):
        assert everything[line, kept[line] - 1] == targets[line]
        if dropped[line]:
            assert unseen[line, dropped[line] - 1] == targets[line]
        else:
            assert targets[line] in histories[line]
    assert (kept[3], dropped[3]) == (0, 0)


def test_a_catalogue_of_one_item() -> None:
    model, codes, ids, table = parts(items=1)
    recommender = Recommender.of_parts(model, codes, ids, table)
    assert recommender.recommend([["i0"], []], 3)[0] == [["i0"], ["i0"]]
    assert recommender.recommend([], 3) == ([], [])


def test_wrong_parts_are_refused(recommender: Recommender) -> None:
    model, codes, ids, _ = parts()
    with pytest.raises(ArtifactError, match="different releases"):
        Recommender.of_parts(model, codes, ids[:-1])
    with pytest.raises(TesserecError, match="deny"):
        recommender.recommend([["i1"]], 3, Constraints(deny=[]))


def write_release(folder: Path, *, grown_in: Path | None = None) -> Recommender:
    """A release folder; with `grown_in`, that folder's release appends three items to it."""
    model, codes, ids, table = parts()
    (folder / "codes").mkdir(parents=True)
    (folder / "items").mkdir()
    save_file({"codes": codes}, folder / "codes/base-0000.safetensors")
    pq.write_table(table, folder / "items/base-0000.parquet")
    model.save(folder / "models/rpg")

    def entry(release: Path, path: str) -> dict[str, str]:
        return {"release": release.name, "path": path, "sha256": ""}

    own = {
        "codes": [entry(folder, "codes/base-0000.safetensors")],
        "items": [entry(folder, "items/base-0000.parquet")],
        "models": {
            "rpg": [entry(folder, f"models/rpg/model.{e}") for e in ("json", "safetensors")]
        },
    }
    write_manifest(folder, {"release_id": folder.name, "model": "rpg", "parts": own})
    if grown_in is not None:
        (grown_in / "codes").mkdir(parents=True)
        (grown_in / "items").mkdir()
        save_file({"codes": codes[:3]}, grown_in / "codes/delta-0001.safetensors")
        new = table.slice(0, 3).set_column(0, "item_id", pa.array(["n0", "n1", "n2"]))
        pq.write_table(new, grown_in / "items/delta-0001.parquet")
        own["codes"].append(entry(grown_in, "codes/delta-0001.safetensors"))
        own["items"].append(entry(grown_in, "items/delta-0001.parquet"))
        write_manifest(grown_in, {"release_id": grown_in.name, "model": "rpg", "parts": own})
    return Recommender.of_parts(model, codes, ids, table)


def test_load_release(tmp_path: Path) -> None:
    expected = write_release(tmp_path / "r1")
    loaded = Recommender.load(tmp_path / "r1")
    assert loaded.release_id == "r1"
    assert loaded.item_ids == expected.item_ids
    got, want = (r.recommend([["i1", "i2"]], 9) for r in (loaded, expected))
    assert got[0] == want[0]
    assert got[1][0].tolist() == want[1][0].tolist()


def test_parts_of_an_ancestor_are_read_there(tmp_path: Path) -> None:
    write_release(tmp_path / "r1", grown_in=tmp_path / "r2")
    loaded = Recommender.load(tmp_path / "r2")
    assert loaded.item_ids[-3:] == ["n0", "n1", "n2"]
    ids, scores = loaded.recommend([["i5"]], ITEMS + 3)
    twins = dict(zip(ids[0], scores[0].tolist(), strict=True))
    for row in range(3):  # equal codes tie, and the older row stands first
        assert twins[f"n{row}"] == twins[f"i{row}"]
        assert ids[0].index(f"i{row}") < ids[0].index(f"n{row}")
    (tmp_path / "r1" / "codes" / "base-0000.safetensors").unlink()
    with pytest.raises(ArtifactError, match="isn't there"):
        Recommender.load(tmp_path / "r2")


def test_each_file_of_a_model_may_lie_in_another_ancestor(tmp_path: Path) -> None:
    expected = write_release(tmp_path / "r1")
    manifest = json.loads((tmp_path / "r1" / "manifest.json").read_text())
    (tmp_path / "r2" / "models" / "rpg").mkdir(parents=True)
    weights = "models/rpg/model.safetensors"  # trained anew; its shape is that of r1
    (tmp_path / "r1" / weights).rename(tmp_path / "r2" / weights)
    for entry in manifest["parts"]["models"]["rpg"]:
        if entry["path"] == weights:
            entry["release"] = "r2"
    write_manifest(tmp_path / "r2", manifest | {"release_id": "r2"})
    loaded = Recommender.load(tmp_path / "r2")
    assert loaded.recommend([["i1"]], 9)[0] == expected.recommend([["i1"]], 9)[0]


def test_another_model_or_decoder_is_refused(tmp_path: Path) -> None:
    write_release(tmp_path / "r1")
    (tmp_path / "r1" / "decoder").mkdir()
    (tmp_path / "r1" / "decoder" / "decoder.json").write_text('{"name": "guess"}')
    parts = json.loads((tmp_path / "r1" / "manifest.json").read_text())["parts"]
    decoder = [{"release": "r1", "path": "decoder/decoder.json", "sha256": ""}]
    for fields, asked in (
        ({"parts": parts | {"decoder": decoder}, "model": "rpg"}, "decoder 'guess'"),
        ({"parts": parts, "model": "tiger"}, "model 'tiger'"),
    ):
        write_manifest(tmp_path / "r1", {"release_id": "r1", **fields})
        with pytest.raises(ArtifactError, match=asked):
            Recommender.load(tmp_path / "r1")


@pytest.mark.parametrize("text", ['{"name": "sc', "[1, 2]", "\xff"])
def test_a_damaged_decoder_file_is_named(tmp_path: Path, text: str) -> None:
    write_release(tmp_path / "r1")
    path = tmp_path / "r1" / "decoder" / "decoder.json"
    path.parent.mkdir()
    path.write_bytes(text.encode("latin-1"))
    manifest = json.loads((tmp_path / "r1" / "manifest.json").read_text())
    manifest["parts"]["decoder"] = [{"release": "r1", "path": "decoder/decoder.json", "sha256": ""}]
    write_manifest(tmp_path / "r1", manifest)
    with pytest.raises(ArtifactError, match=r"r1/decoder/decoder\.json .*build the release anew"):
        Recommender.load(tmp_path / "r1")


def test_a_folder_without_manifest_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a finished artefact"):
        Recommender.load(tmp_path)


def test_it_needs_numpy_torch_pyarrow_and_safetensors_alone() -> None:
    code = (
        "import sys, json, tesserec.recommender as r;"
        "print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    loaded = set(json.loads(out.stdout))
    heavy = {"feast", "kfp", "apache_beam", "great_expectations", "faiss", "sklearn", "scipy"}
    assert not loaded & (heavy | {"transformers", "pandas", "tensorboard", "matplotlib"})
