"""Artefacts are complete or do not exist."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tesserec.artifacts import build, open_artifact
from tesserec.errors import ArtifactError


def make_text(text: str):
    return lambda folder: (folder / "a.txt").write_text(text) and None


def test_second_build_returns_at_once_and_the_same(tmp_path: Path) -> None:
    first, reused = build(
        tmp_path, "k", params={"a": 1}, parents=[], version=1, make=make_text("x")
    )
    assert not reused

    def never(folder: Path) -> None:
        raise AssertionError("made twice")

    second, reused = build(tmp_path, "k", params={"a": 1}, parents=[], version=1, make=never)
    assert reused and second.content_hash == first.content_hash


@pytest.mark.parametrize(
    "change", [{"params": {"a": 2}}, {"version": 2}, {"kind": "other"}], ids=lambda c: next(iter(c))
)
def test_key_follows_what_matters(tmp_path: Path, change: dict) -> None:
    base = {"kind": "k", "params": {"a": 1}, "parents": [], "version": 1, "make": make_text("x")}
    one, _ = build(tmp_path, **base)
    two, _ = build(tmp_path, **(base | change))
    assert one.path != two.path


def test_key_follows_the_contents_of_parents(tmp_path: Path) -> None:
    parents = [
        build(tmp_path, "p", params={"i": i}, parents=[], version=1, make=make_text(text))[0]
        for i, text in enumerate("aab")
    ]
    children = [
        build(tmp_path, "c", params={}, parents=[p], version=1, make=make_text("c"))[0]
        for p in parents
    ]
    assert children[0].path == children[1].path != children[2].path


def test_a_failed_make_leaves_nothing_to_read(tmp_path: Path) -> None:
    def half(folder: Path) -> None:
        (folder / "a.txt").write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        build(tmp_path, "k", params={}, parents=[], version=1, make=half)
    assert not list((tmp_path / "artifacts").glob("k-*"))
    artifact, reused = build(tmp_path, "k", params={}, parents=[], version=1, make=make_text("x"))
    assert not reused and artifact.file("a.txt").read_text() == "x"
    assert not list((tmp_path / "artifacts").glob(".tmp*"))


def test_a_folder_without_manifest_does_not_exist(tmp_path: Path) -> None:
    artifact, _ = build(tmp_path, "k", params={}, parents=[], version=1, make=make_text("x"))
    (artifact.path / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match=r"no manifest\.json"):
        open_artifact(artifact.path)
    _, reused = build(tmp_path, "k", params={}, parents=[], version=1, make=make_text("x"))
    assert not reused


def test_verify_names_the_changed_file(tmp_path: Path) -> None:
    artifact, _ = build(tmp_path, "k", params={}, parents=[], version=1, make=make_text("x"))
    artifact.file("a.txt").write_text("y")
    with pytest.raises(ArtifactError, match=r"a\.txt has other bytes"):
        open_artifact(artifact.path, verify=True)


def test_pointer_is_plain_json(tmp_path: Path) -> None:
    artifact, _ = build(tmp_path, "k", params={}, parents=[], version=1, make=make_text("x"))
    assert set(json.loads(json.dumps(artifact.pointer()))) == {"id", "uri", "content_hash"}
