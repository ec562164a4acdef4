"""Releases of each model: sound, served as offline, refused where parts don't belong together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tesserec.artifacts import sha256_of, write_manifest
from tesserec.decoders.constraints import Constraints
from tesserec.errors import ArtifactError
from tesserec.recommender import Recommender
from tesserec.release import promote, read_release, release_folder, verify
from tesserec.release.manifest import plain, release_id_of
from tesserec.serving.handler import Handler
from tesserec.serving.manager import Manager
from tesserec.serving.rehearsal import Ranking, difference, offline_rankings
from tesserec.serving.request import Response, make_request
from tests.fakes.release import ITEMS, TRAINED, FakeReader, item_id, tiny_release

PARTS = {"rpg": {"rpg"}, "sasrec": {"sasrec"}, "fusion": {"rpg", "sasrec", "fusion"}}


@pytest.fixture(scope="module", params=PARTS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp(request.param)
    return release_folder(workdir, tiny_release(workdir, model=request.param))


def test_the_release_is_sound_and_has_its_parts(folder: Path) -> None:
    assert verify(folder) == []
    manifest = read_release(folder)
    name = manifest["model"]
    assert set(manifest["parts"]["models"]) == PARTS[name]
    assert ("codes" in manifest["parts"]) == (name != "sasrec")
    items = pq.read_table(folder / "items" / "base-0000.parquet")
    assert items["trained"].to_pylist() == [row < TRAINED for row in range(ITEMS)]
    recommender = Recommender.load(folder)
    assert recommender.model_name == name
    assert set(recommender.parts()) == PARTS[name] - {name}


def test_served_equals_offline_in_any_batch(folder: Path) -> None:
    workdir = folder.parents[1]
    promote(workdir, folder.name)
    handler = Handler(workdir, manager=Manager(workdir, reader=lambda _: FakeReader()))
    users = [f"U{n}" for n in range(1, 150)]
    offline = offline_rankings(Recommender.load(folder), FakeReader(), users, ITEMS)
    together = handler.recommend([make_request(user, k=ITEMS) for user in users])
    for user, answer, expected in zip(users, together, offline, strict=True):
        alone = handler.recommend([make_request(user, k=ITEMS)])[0]
        for found in (answer, alone):
            assert isinstance(found, Response)
            ranking = Ranking(found.item_ids, found.scores.tolist())
            assert difference(ranking, expected) is None, user
    (told,) = handler.recommend([make_request("U5", k=3, rules='{"explain": true}')])
    assert isinstance(told, Response)
    items = json.loads(told.explain)["items"]
    codes = [item["sid"] for item in items]
    if "sasrec" in folder.parts[-3]:
        assert codes == [item["because"] for item in items] == [None] * 3
    else:
        assert all(map(len, codes)) and all(isinstance(i["because"], list) for i in items)


def test_new_items_can_be_asked_for(folder: Path) -> None:
    """SASRec knows nothing of them, so they come last; a quota still brings them up."""
    recommender = Recommender.load(folder)
    new = {item_id(row) for row in range(TRAINED, ITEMS)}
    (ids,), (scores,) = recommender.recommend([[item_id(1)]], ITEMS)
    assert len(ids) == ITEMS and np.isfinite(scores).all()
    if recommender.model_name == "sasrec":
        assert ids[TRAINED:] == sorted(new)
    else:
        assert set(ids[:TRAINED]) & new
    bits = np.packbits(np.arange(ITEMS) >= TRAINED, bitorder="little")
    (ids,), _ = recommender.recommend([[item_id(1)]], 5, Constraints(quota=(bits, 2)))
    assert len(set(ids) & new) >= 2


@pytest.mark.parametrize(
    ("model", "old"), [("sasrec", f'"items": {ITEMS}'), ("rpg", '"id_vectors": 0')]
)
def test_a_model_of_more_items_is_found(tmp_path: Path, model: str, old: str) -> None:
    folder = release_folder(tmp_path, tiny_release(tmp_path, model=model))
    path = folder / "models" / model / "model.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, f"{old.partition(':')[0]}: {ITEMS + 1}"))
    moved = _restamp(folder, f"models/{model}/model.json")
    (problem,) = verify(moved)
    assert problem == f"model {model} was trained with 61 items, the release has 60"
    with pytest.raises(ArtifactError):
        Recommender.load(moved)


def test_a_fusion_without_a_part_is_found(tmp_path: Path) -> None:
    folder = release_folder(tmp_path, tiny_release(tmp_path, model="fusion"))
    (folder / "models" / "sasrec" / "model.safetensors").unlink()
    assert "models/sasrec/model.safetensors is missing" in verify(folder)[0]
    with pytest.raises(ArtifactError, match="isn't there"):
        Recommender.load(folder)


def test_a_fusion_whose_manifest_lacks_a_part_is_found(tmp_path: Path) -> None:
    folder = release_folder(tmp_path, tiny_release(tmp_path, model="fusion"))
    moved = _restamp(folder, "", without="sasrec")
    assert verify(moved) == [
        "model sasrec has no model.json",
        "model sasrec has no model.safetensors",
    ]


def _restamp(folder: Path, name: str, *, without: str = "") -> Path:
    """Write the manifest anew for a file that was changed, as a forger would."""
    manifest = read_release(folder)
    parts = manifest["parts"]
    parts["models"] = {k: v for k, v in parts["models"].items() if k != without}
    for entry in [e for entries in parts["models"].values() for e in entries]:
        if entry["path"] == name:
            entry["sha256"] = sha256_of(folder / name)
    new = release_id_of(parts, manifest["feature_service"], manifest["feature_schema_hash"])
    for kind in parts.values():
        for entry in kind if isinstance(kind, list) else [e for k in kind.values() for e in k]:
            entry["release"] = new
    moved = folder.with_name(new)
    folder.rename(moved)
    fields = {k: v for k, v in manifest.items() if k not in ("files", "content_hash")}
    write_manifest(moved, {**fields, "release_id": new, "parts": plain(parts)})
    return moved
