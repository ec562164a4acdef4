"""Two releases in memory: equal parts are held once, and answers are those of each alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from tesserec import tables
from tesserec.artifacts import sha256_of
from tesserec.recommender import Recommender
from tesserec.release import release_folder
from tests.fakes.release import DIGITS, ITEMS, item_id, tiny_release

HISTORIES = [[item_id(3)], [item_id(n) for n in range(20)], []]


def grown(workdir: Path, base: str, name: str, rows: int = 3) -> Path:
    """A release folder that adds items to another and refers to it for the rest."""
    folder = workdir / "releases" / name
    manifest = json.loads((workdir / "releases" / base / "manifest.json").read_text())
    for part in ("codes", "items"):
        (folder / part).mkdir(parents=True)
    codes = np.random.default_rng(9).integers(0, 16, (rows, DIGITS), dtype=np.uint8)
    save_file({"codes": codes}, folder / "codes" / "delta-0001.safetensors")
    table = pq.read_table(workdir / "releases" / base / "items" / "base-0000.parquet")
    ids = pa.array([f"N{row}" for row in range(rows)])
    pq.write_table(table.slice(0, rows).set_column(0, "item_id", ids), folder / "items/delta.pq")
    for part, path in (("codes", "codes/delta-0001.safetensors"), ("items", "items/delta.pq")):
        entry = {"release": name, "path": path, "sha256": sha256_of(folder / path)}
        manifest["parts"][part].append(entry)
    (folder / "manifest.json").write_text(json.dumps({**manifest, "release_id": name}))
    return folder


def same_answers(ours: Recommender, alone: Recommender) -> None:
    for a, b in zip(ours.recommend(HISTORIES, 9), alone.recommend(HISTORIES, 9), strict=True):
        for one, other in zip(a, b, strict=True):
            assert list(one) == list(other)


@pytest.mark.parametrize("model", ["rpg", "sasrec", "fusion"])
def test_the_same_release_twice_is_held_once(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = release_folder(tmp_path, tiny_release(tmp_path, model=model))
    first = Recommender.load(folder)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a part that is in memory was read again")

    monkeypatch.setattr(pq, "read_table", never)
    monkeypatch.setattr(tables, "load_file", never)
    second = Recommender.load(folder, beside=[first])
    assert second.row_of is first.row_of and second.items is first.items
    assert second.codes is first.codes
    for name, part in second.trained_models().items():
        assert part is first.trained_models()[name]
    same_answers(second, first)


@pytest.mark.parametrize("model", ["rpg", "fusion"])
def test_a_delta_reads_its_delta_alone(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_release(tmp_path, model=model)
    folder = grown(tmp_path, base, "r00000000001")
    first, alone = Recommender.load(release_folder(tmp_path, base)), Recommender.load(folder)
    read: list[str] = []
    load_file, read_table = tables.load_file, pq.read_table
    monkeypatch.setattr(tables, "load_file", lambda p: (read.append(p.name), load_file(p))[1])
    monkeypatch.setattr(pq, "read_table", lambda p: (read.append(p.name), read_table(p))[1])
    second = Recommender.load(folder, beside=[first])
    assert sorted(read) == ["delta-0001.safetensors", "delta.pq"]
    assert len(second.item_ids) == ITEMS + 3 and len(first.item_ids) == ITEMS
    for name, part in second.trained_models().items():
        weights = zip(part.parameters(), first.trained_models()[name].parameters(), strict=True)
        assert all(ours.data_ptr() == theirs.data_ptr() for ours, theirs in weights)
    same_answers(second, alone)
    same_answers(first, Recommender.load(release_folder(tmp_path, base)))
    assert any(
        item.startswith("N") for ids in second.recommend(HISTORIES, ITEMS)[0] for item in ids
    )


def test_a_model_that_grows_keeps_what_training_knew(tmp_path: Path) -> None:
    model = Recommender.load(
        release_folder(tmp_path, tiny_release(tmp_path, model="sasrec"))
    ).trained_models()["sasrec"]
    more = model.grown(ITEMS + 5)
    assert len(more.known()) == ITEMS + 5 and len(model.known()) == ITEMS
    assert (more.known()[:ITEMS] == model.known()).all() and not more.known()[ITEMS:].any()
    assert more.vectors is model.vectors


def test_other_weights_of_the_same_codes_share_the_decoder(tmp_path: Path) -> None:
    base = tiny_release(tmp_path)
    first = Recommender.load(release_folder(tmp_path, base))
    other = tiny_release(tmp_path, seed=2)
    folder = release_folder(tmp_path, other)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["parts"]["codes"] = json.loads(
        (release_folder(tmp_path, base) / "manifest.json").read_text()
    )["parts"]["codes"]
    mixed = tmp_path / "releases" / "r00000000002"
    mixed.mkdir()
    (mixed / "manifest.json").write_text(json.dumps({**manifest, "release_id": mixed.name}))
    alone = Recommender.load(mixed)
    second = Recommender.load(mixed, beside=[first])
    assert second.codes is first.codes and second.decoder is first.decoder
    assert second.trained_models()["rpg"] is not first.trained_models()["rpg"]
    same_answers(second, alone)


def test_without_hashes_nothing_is_shared(tmp_path: Path) -> None:
    folder = release_folder(tmp_path, tiny_release(tmp_path))
    manifest = json.loads((folder / "manifest.json").read_text())
    for entries in (manifest["parts"]["codes"], manifest["parts"]["items"]):
        for entry in entries:
            entry["sha256"] = ""
    (folder / "manifest.json").write_text(json.dumps(manifest))
    first = Recommender.load(folder)
    second = Recommender.load(folder, beside=[first])
    assert second.codes is not first.codes and second.row_of is not first.row_of
