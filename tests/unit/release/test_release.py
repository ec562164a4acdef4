"""Releases: equal inputs give equal ids, every damage is found, the pointer moves as a whole."""

from __future__ import annotations

import json
import shutil
import threading
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tesserec.artifacts import sha256_of, write_manifest
from tesserec.errors import ArtifactError, UsageError
from tesserec.release import (
    build_release,
    list_releases,
    promote,
    promoted,
    prune,
    read_pointer,
    read_release,
    release_folder,
    require_sound,
    rollback,
    verify,
)
from tesserec.release.manifest import Part, plain, release_id_of
from tests.fakes.release import ITEMS, artifacts, tiny_release


def test_equal_inputs_give_the_same_release(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    assert tiny_release(first) == tiny_release(second)
    assert tiny_release(first) == tiny_release(first)
    assert tiny_release(first) != tiny_release(first, seed=2)
    assert tiny_release(first) != tiny_release(first, schema_hash="beef")
    assert not list((first / "releases").glob(".*")), "a scratch folder was left"


def test_manifest_names_every_file(tmp_path: Path) -> None:
    folder = release_folder(tmp_path, tiny_release(tmp_path))
    manifest = read_release(folder)
    assert manifest["feature_service"] == "recommend_v1"
    assert set(manifest["sources"]) == {
        "features",
        "store",
        "vectors",
        "codes",
        "model",
        "metrics",
    }
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert files == {*manifest["files"], "manifest.json"}
    items = pq.read_table(folder / "items" / "base-0000.parquet")
    assert items.num_rows == ITEMS
    assert items["count_30d"][0].as_py() == ITEMS
    assert verify(folder) == []


@pytest.mark.parametrize(
    "name",
    [
        "codes/base-0000.safetensors",
        "items/base-0000.parquet",
        "models/rpg/model.safetensors",
        "models/rpg/model.json",
        "encoder/encoder.json",
        "metrics.json",
    ],
)
def test_verify_finds_a_changed_and_a_missing_file(tmp_path: Path, name: str) -> None:
    folder = release_folder(tmp_path, tiny_release(tmp_path))
    path = folder / name
    path.write_bytes(path.read_bytes() + b" ")
    assert any(name in problem for problem in verify(folder))
    path.unlink()
    assert any(name in problem and "missing" in problem for problem in verify(folder))


def test_verify_finds_an_exchanged_manifest_and_a_renamed_folder(tmp_path: Path) -> None:
    one, two = tiny_release(tmp_path), tiny_release(tmp_path, seed=2)
    folder = release_folder(tmp_path, one)
    manifest = read_release(folder)
    manifest["feature_schema_hash"] = "other"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "not the hash of its parts" in verify(folder)[0]
    other = tmp_path / "releases" / "r00000000000"
    shutil.copytree(release_folder(tmp_path, two), other)
    assert "is called r00000000000" in verify(other)[0]
    (other / "manifest.json").write_text("{")
    assert "not valid JSON" in verify(other)[0]


def test_verify_finds_parts_of_different_releases(tmp_path: Path) -> None:
    """Hashes may hold and the parts still be of two worlds."""
    folder = release_folder(tmp_path, tiny_release(tmp_path))
    items = folder / "items" / "base-0000.parquet"
    pq.write_table(pq.read_table(items).slice(1), items)
    _restamp(folder, "items/base-0000.parquet", ("items",))
    moved = folder.with_name(read_release(folder)["release_id"])
    folder.rename(moved)
    assert f"codes have {ITEMS} rows, items {ITEMS - 1}" in verify(moved)[0]


def test_verify_finds_a_model_of_other_codes(tmp_path: Path) -> None:
    folder = release_folder(tmp_path, tiny_release(tmp_path))
    shape = folder / "models" / "rpg" / "model.json"
    shape.write_text(shape.read_text().replace('"digits": 4', '"digits": 8'))
    _restamp(folder, "models/rpg/model.json", ("models", "rpg"))
    moved = folder.with_name(read_release(folder)["release_id"])
    folder.rename(moved)
    assert "model rpg has 8 digits, the codes [4]" in verify(moved)[0]


def test_a_part_may_lie_in_an_ancestor(tmp_path: Path) -> None:
    base = tiny_release(tmp_path)
    child = _child_of(tmp_path, base)
    folder = release_folder(tmp_path, child)
    assert verify(folder) == []
    codes = release_folder(tmp_path, base) / "codes" / "base-0000.safetensors"
    codes.write_bytes(codes.read_bytes()[:-1] + b"!")
    assert any("part codes has other bytes" in problem for problem in verify(folder))


def test_promote_and_roll_back(tmp_path: Path) -> None:
    assert promoted(tmp_path) is None
    ids = [tiny_release(tmp_path, seed=seed) for seed in (1, 2, 3)]
    promote(tmp_path, ids[0])
    promote(tmp_path, ids[1])
    pointer = promote(tmp_path, ids[2])
    assert pointer["previous"] == ids[1]
    assert promote(tmp_path, ids[2]) == pointer, "promoting again must change nothing"
    assert rollback(tmp_path)["release_id"] == ids[1]
    assert rollback(tmp_path)["release_id"] == ids[0]
    with pytest.raises(UsageError, match="no earlier promotion"):
        rollback(tmp_path)
    assert promoted(tmp_path) == ids[0]


def test_roll_back_passes_over_what_was_pruned(tmp_path: Path) -> None:
    ids = [tiny_release(tmp_path, seed=seed) for seed in (1, 2, 3)]
    for release in ids:
        promote(tmp_path, release)
    shutil.rmtree(release_folder(tmp_path, ids[1]))
    assert rollback(tmp_path)["release_id"] == ids[0]


def test_a_damaged_or_unknown_release_is_not_promoted(tmp_path: Path) -> None:
    good, bad = tiny_release(tmp_path), tiny_release(tmp_path, seed=2)
    promote(tmp_path, good)
    (release_folder(tmp_path, bad) / "metrics.json").write_text("{}")
    with pytest.raises(ArtifactError, match="damaged"):
        promote(tmp_path, bad)
    for wrong in ("r00000000000", "../x", "r1"):
        with pytest.raises(UsageError):
            promote(tmp_path, wrong)
    assert promoted(tmp_path) == good
    (tmp_path / "promoted").write_text("{}")
    with pytest.raises(ArtifactError, match=r"not a promotion pointer.*delete it"):
        promoted(tmp_path)


def test_readers_never_see_half_a_pointer(tmp_path: Path) -> None:
    ids = [tiny_release(tmp_path, seed=seed) for seed in (1, 2)]
    promote(tmp_path, ids[0])
    stop = threading.Event()
    seen: set[str | None] = set()

    def read() -> None:
        while not stop.is_set():
            seen.add(promoted(tmp_path))

    reader = threading.Thread(target=read)
    reader.start()
    writers = [
        threading.Thread(target=lambda i=i: [promote(tmp_path, ids[i]) for _ in range(10)])
        for i in (0, 1)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    stop.set()
    reader.join()
    assert seen <= set(ids)
    history = (read_pointer(tmp_path) or {})["history"]
    assert all(a != b for a, b in pairwise(history)), "a move was lost"


def test_prune_keeps_what_is_needed(tmp_path: Path) -> None:
    ids = [tiny_release(tmp_path, seed=seed) for seed in range(1, 7)]
    promote(tmp_path, ids[1])
    child = _child_of(tmp_path, ids[0])  # the newest; its codes lie in the oldest
    assert sorted(prune(tmp_path)) == sorted([ids[2], ids[3]])
    left = {row["release_id"] for row in list_releases(tmp_path)}
    assert left == {ids[0], ids[1], ids[4], ids[5], child}
    (tmp_path / "releases" / ".deleted-r00000000000-1").mkdir()  # of a killed call
    assert prune(tmp_path) == []
    assert not list((tmp_path / "releases").glob(".*"))


def test_the_list_shows_finished_releases_newest_first(tmp_path: Path) -> None:
    assert list_releases(tmp_path) == []
    ids = [tiny_release(tmp_path, seed=seed) for seed in (1, 2)]
    promote(tmp_path, ids[0])
    (tmp_path / "releases" / "r99999999999").mkdir()
    rows = list_releases(tmp_path)
    assert [row["release_id"] for row in rows] == ids[::-1]
    assert [row["promoted"] for row in rows] == [False, True]
    assert rows[0]["items"] == ITEMS
    assert rows[0]["metrics"]["kept"]["ndcg@10"] == 0.02
    (release_folder(tmp_path, ids[0]) / "metrics.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"metrics\.json is not JSON"):
        list_releases(tmp_path)


def test_artefacts_of_different_runs_are_refused(tmp_path: Path) -> None:
    made = artifacts(tmp_path)
    path = made["vectors"].path / "item_ids.parquet"
    pq.write_table(pa.table({"item_id": ["X"] * ITEMS}), path)
    with pytest.raises(ArtifactError, match="stem from different runs"):
        build_release(
            tmp_path,
            features=made["features"],
            store=made["store"],
            coded=(made["vectors"], made["codes"]),
            model=made["model"],
            model_name="rpg",
            metrics=made["metrics"],
        )


def _restamp(folder: Path, name: str, where: tuple[str, ...]) -> None:
    """Write the manifest anew for a file that was changed, as a forger would."""
    manifest = read_release(folder)
    parts = manifest["parts"]
    entry = parts
    for key in where:
        entry = entry[key]
    next(e for e in entry if e["path"] == name)["sha256"] = sha256_of(folder / name)
    service, schema = manifest["feature_service"], manifest["feature_schema_hash"]
    old, manifest["release_id"] = manifest["release_id"], release_id_of(parts, service, schema)
    text = json.dumps(parts).replace(old, manifest["release_id"])
    manifest["parts"] = json.loads(text)
    manifest["files"][name]["sha256"] = sha256_of(folder / name)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _child_of(workdir: Path, base: str) -> str:
    """A release whose codes and items lie in another one."""
    former = read_release(release_folder(workdir, base))
    scratch = workdir / "releases" / ".child"
    shutil.copytree(release_folder(workdir, base), scratch)
    for name in ("codes", "items"):
        shutil.rmtree(scratch / name)
    (scratch / "manifest.json").unlink()
    (scratch / "decoder" / "decoder.json").write_text('{"name": "exhaustive", "child": true}')
    parts = former["parts"]
    parts["decoder"][0]["sha256"] = sha256_of(scratch / "decoder" / "decoder.json")
    service, schema = former["feature_service"], former["feature_schema_hash"]
    release_id = release_id_of(parts, service, schema)
    for name in ("encoder", "tokenizer", "decoder"):
        parts[name] = [Part(release_id, p["path"], p["sha256"]) for p in parts[name]]
    parts["models"] = {
        "rpg": [Part(release_id, p["path"], p["sha256"]) for p in parts["models"]["rpg"]]
    }
    fields = former | {"release_id": release_id, "parent": base, "parts": plain(parts)}
    fields["created"] = "2999-01-01"
    write_manifest(scratch, fields)
    scratch.rename(workdir / "releases" / release_id)
    return release_id


def test_a_part_of_another_release_is_refused_with_both_hashes(tmp_path: Path) -> None:
    """Tokenizer, table and model of one release in another one, its manifest as it was."""
    one, two = (release_folder(tmp_path, tiny_release(tmp_path, seed=s)) for s in (1, 2))
    names = ("models/rpg/model.safetensors", "codes/base-0000.safetensors")
    for name in names:
        kept = (one / name).read_bytes()
        stated = read_release(one)["files"][name]["sha256"]
        shutil.copyfile(two / name, one / name)
        with pytest.raises(ArtifactError) as caught:
            require_sound(one)
        for text in (name, sha256_of(two / name)[:12], stated[:12]):
            assert text in str(caught.value)
        (one / name).write_bytes(kept)
    assert verify(one) == []
