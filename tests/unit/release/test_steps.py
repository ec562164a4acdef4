"""The steps around a release: built once, again if pruned, promoted only if rehearsed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tesserec.artifacts import Artifact, build
from tesserec.config import RunConfig
from tesserec.errors import GateFailed
from tesserec.release import promoted, verify
from tesserec.steps import build_release, promote, rehearse
from tests.fakes.release import artifacts

CONFIG = RunConfig()


def release_of(workdir: Path) -> Artifact:
    made = artifacts(workdir)
    raw, _ = build(workdir, "raw", params={}, parents=(), version=1, make=lambda folder: None)
    return build_release.run(
        workdir,
        CONFIG,
        raw,
        made["features"],
        made["store"],
        made["vectors"],
        made["codes"],
        made["model"],
        made["metrics"],
    )


def rehearsal_of(workdir: Path, release_id: str, equal: bool) -> Artifact:
    def make(folder: Path) -> None:
        mismatches = [] if equal else [{"user_id": "U1", "problem": "place 1: score 1 against 2"}]
        result = {"release_id": release_id, "users": 3, "equal": equal, "mismatches": mismatches}
        (folder / "rehearsal.json").write_text(json.dumps(result))

    params = {"id": release_id, "equal": equal}
    return build(workdir, "rehearsal", params=params, parents=(), version=1, make=make)[0]


def test_a_release_is_built_once_and_again_if_it_was_deleted(tmp_path: Path) -> None:
    first = release_of(tmp_path)
    folder = tmp_path / "releases" / first.read_json("release.json")["release_id"]
    stamp = folder.stat().st_mtime_ns
    assert release_of(tmp_path).content_hash == first.content_hash
    assert folder.stat().st_mtime_ns == stamp
    shutil.rmtree(folder)
    release_of(tmp_path)
    assert verify(folder) == []


def test_a_damaged_release_is_built_anew_by_the_next_run(tmp_path: Path) -> None:
    release = release_of(tmp_path)
    folder = tmp_path / "releases" / release.read_json("release.json")["release_id"]
    with (folder / "decoder" / "decoder.json").open("a") as handle:
        handle.write(" ")
    assert verify(folder)
    assert release_of(tmp_path).content_hash == release.content_hash
    assert verify(folder) == []


def test_only_a_rehearsed_release_is_promoted(tmp_path: Path) -> None:
    release = release_of(tmp_path)
    release_id = release.read_json("release.json")["release_id"]
    for bad in (
        rehearsal_of(tmp_path, release_id, equal=False),
        rehearsal_of(tmp_path, "r00000000000", equal=True),
    ):
        with pytest.raises(GateFailed, match="is not promoted"):
            promote.run(tmp_path, CONFIG, release, bad)
    assert promoted(tmp_path) is None
    good = rehearsal_of(tmp_path, release_id, equal=True)
    promotion = promote.run(tmp_path, CONFIG, release, good)
    assert promotion.read_json("promotion.json")["release_id"] == release_id
    assert promoted(tmp_path) == release_id


def test_a_rehearsal_that_differs_is_a_failed_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tesserec.serving import rehearsal

    release = release_of(tmp_path)
    release_id = release.read_json("release.json")["release_id"]
    made = artifacts(tmp_path)
    answers = [False, False, True]
    calls = []

    def fake(*args: object, **kwargs: object) -> dict[str, object]:
        equal = answers[len(calls)]
        calls.append(args)
        problem = {"user_id": "U1", "problem": "place 1: score 1 against 2"}
        return {
            "release_id": release_id,
            "users": 2,
            "equal": equal,
            "mismatches": [] if equal else [problem],
            "latency_ms": {},
            "seconds_to_ready": 1.0,
        }

    monkeypatch.setattr(rehearsal, "rehearse", fake)
    monkeypatch.setattr(rehearsal, "sample_users", lambda features, count: ["U1"])
    for _ in range(2):
        with pytest.raises(GateFailed, match="user U1: place 1: score 1 against 2") as caught:
            rehearse.run(tmp_path, CONFIG, release, made["features"], made["store"])
        assert caught.value.artifact.kind == "rehearsal"
    # An event pushed meanwhile may have been the cause: a "no" is asked again, a "yes" is kept.
    for _ in range(2):
        again = rehearse.run(tmp_path, CONFIG, release, made["features"], made["store"])
        assert again.read_json("rehearsal.json")["equal"]
    assert len(calls) == 3
