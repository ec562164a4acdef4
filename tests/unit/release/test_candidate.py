"""A candidate beside the promoted release, in the one small file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tesserec.errors import ArtifactError, UsageError
from tesserec.release import (
    CANARY,
    SHADOW,
    promote,
    promoted,
    prune,
    read_pointer,
    release_folder,
    rollback,
    try_release,
)
from tesserec.release.candidate import withdraw_candidate, withdraw_promotion
from tests.fakes.release import tiny_release


@pytest.fixture
def ids(tmp_path: Path) -> list[str]:
    made = [tiny_release(tmp_path, seed=seed) for seed in (1, 2, 3)]
    promote(tmp_path, made[0])
    return made


def test_a_candidate_is_named_and_completed(tmp_path: Path, ids: list[str]) -> None:
    before = read_pointer(tmp_path) or {}
    pointer = try_release(tmp_path, ids[1], mode=CANARY, share=0.05)
    assert read_pointer(tmp_path) == pointer
    assert pointer["release_id"] == ids[0] and pointer["promoted_at"] == before["promoted_at"]
    assert pointer["candidate"]["release_id"] == ids[1] and pointer["candidate"]["share"] == 0.05
    larger = try_release(tmp_path, ids[1], mode=CANARY, share=0.2)
    assert larger["candidate"]["since"] == pointer["candidate"]["since"], "the trial goes on"
    other = try_release(tmp_path, ids[1], mode=SHADOW, share=0.2)
    assert other["candidate"]["since"] > pointer["candidate"]["since"]
    done = promote(tmp_path, ids[1])
    assert done["release_id"] == ids[1] and done["candidate"] is None
    assert done["previous"] == ids[0]


def test_another_promotion_replaces_a_candidate(tmp_path: Path, ids: list[str]) -> None:
    try_release(tmp_path, ids[1], mode=CANARY, share=0.05)
    assert try_release(tmp_path, ids[2], mode=CANARY, share=1)["candidate"]["release_id"] == ids[2]
    assert promote(tmp_path, ids[0])["candidate"], "nothing was promoted, so nothing changed"
    assert promote(tmp_path, ids[1])["candidate"] is None


def test_rollback_cancels_the_candidate_first(tmp_path: Path, ids: list[str]) -> None:
    promote(tmp_path, ids[1])
    try_release(tmp_path, ids[2], mode=SHADOW, share=1)
    cancelled = rollback(tmp_path)
    assert cancelled["release_id"] == ids[1] and cancelled["candidate"] is None
    assert rollback(tmp_path)["release_id"] == ids[0]


@pytest.mark.parametrize("share", [0, -0.1, 1.01, float("nan")])
def test_a_bad_share_is_refused(tmp_path: Path, ids: list[str], share: float) -> None:
    with pytest.raises(UsageError, match="the share is"):
        try_release(tmp_path, ids[1], mode=CANARY, share=share)


def test_only_another_sound_release_can_be_tried(tmp_path: Path, ids: list[str]) -> None:
    with pytest.raises(UsageError, match="is the promoted release"):
        try_release(tmp_path, ids[0], mode=CANARY, share=0.1)
    (release_folder(tmp_path, ids[1]) / "metrics.json").write_text("{}")
    with pytest.raises(ArtifactError, match="damaged"):
        try_release(tmp_path, ids[1], mode=CANARY, share=0.1)
    (tmp_path / "promoted").unlink()
    with pytest.raises(UsageError, match="nothing is promoted"):
        try_release(tmp_path, ids[2], mode=CANARY, share=0.1)


def test_a_server_withdraws_only_what_it_saw(tmp_path: Path, ids: list[str]) -> None:
    since = try_release(tmp_path, ids[1], mode=CANARY, share=0.1)["candidate"]["since"]
    try_release(tmp_path, ids[2], mode=CANARY, share=0.1)
    assert not withdraw_candidate(tmp_path, since, "slow", by="me")
    pointer = read_pointer(tmp_path) or {}
    assert pointer["candidate"]["release_id"] == ids[2]
    assert withdraw_candidate(tmp_path, pointer["candidate"]["since"], "slow", by="me")
    pointer = read_pointer(tmp_path) or {}
    assert pointer["candidate"] is None and pointer["release_id"] == ids[0]
    assert pointer["withdrawn"]["release_id"] == ids[2]
    assert pointer["withdrawn"]["reason"] == "slow"

    promote(tmp_path, ids[1])
    assert not withdraw_promotion(tmp_path, ids[1], ids[2], "slow", by="me"), "not the one before"
    assert not withdraw_promotion(tmp_path, ids[0], ids[1], "slow", by="me"), "not promoted"
    assert withdraw_promotion(tmp_path, ids[1], ids[0], "slow", by="me")
    assert promoted(tmp_path) == ids[0]
    assert not withdraw_promotion(tmp_path, ids[1], ids[0], "slow", by="another server")


def test_an_older_pointer_is_read_and_a_newer_one_refused(tmp_path: Path, ids: list[str]) -> None:
    path = tmp_path / "promoted"
    old = {"release_id": ids[0], "previous": None, "promoted_at": "2026-01-01", "history": []}
    path.write_text(json.dumps(old))
    pointer = read_pointer(tmp_path) or {}
    assert pointer["release_id"] == ids[0] and pointer["candidate"] is None
    assert try_release(tmp_path, ids[1], mode=CANARY, share=0.1)["version"] == 2
    path.write_text(json.dumps({**old, "version": 3}))
    with pytest.raises(ArtifactError, match="version 3"):
        promoted(tmp_path)
    path.write_text(json.dumps({**old, "candidate": {"release_id": ids[1]}}))
    with pytest.raises(ArtifactError, match="not a promotion pointer"):
        promoted(tmp_path)


def test_prune_keeps_the_candidate(tmp_path: Path, ids: list[str]) -> None:
    try_release(tmp_path, ids[1], mode=CANARY, share=0.1)
    assert prune(tmp_path, keep=0) == [ids[2]]
