"""What Triton answers equals what the release answers offline, before and after an event."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pytest

from tesserec.data.splits import Sequences, load_sequences
from tesserec.decoders.constraints import Constraints
from tesserec.recommender import Recommender as Offline
from tesserec.serving.client import Recommender
from tesserec.serving.rehearsal import Ranking, difference
from tests.command import ROOT, environment, tesserec

pytestmark = pytest.mark.triton
USERS = 500


@pytest.fixture(scope="module")
def served(finished: tuple[Path, dict]) -> Iterator[tuple[Path, Recommender, dict[str, Any]]]:
    workdir, _ = finished
    command = [sys.executable, "-m", "tesserec.cli", "serve", "--workdir", str(workdir), "--json"]
    with subprocess.Popen(
        command, env=environment(), cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        info = json.loads(process.stdout.readline())
        with Recommender(info["grpc"], timeout_s=30) as client:
            yield workdir, client, info
        process.terminate()
        assert process.wait(timeout=60) == 0


def sequences_of(workdir: Path) -> Sequences:
    from tesserec.artifacts import open_artifact

    (features,) = (workdir / "artifacts").glob("features-*")
    return load_sequences(open_artifact(features))


def offline(workdir: Path, release_id: str, histories: list[list[str]]) -> list[Ranking]:
    """Straight from the sequences: no Feast, no server, seen items left out."""
    release = Offline.load(workdir / "releases" / release_id)
    deny = [np.array(sorted({release.row_of[i] for i in h}), np.int64) for h in histories]
    ids, scores = release.recommend([h[-50:] for h in histories], 10, Constraints(deny=deny))
    return [Ranking(i, s.tolist()) for i, s in zip(ids, scores, strict=True)]


def test_500_users_get_the_offline_answer(served: tuple[Path, Recommender, dict]) -> None:
    workdir, client, info = served
    sequences = sequences_of(workdir)
    order = np.argsort([-len(items) for items in sequences.item_ids], kind="stable")[:USERS]
    assert len(order) == USERS and len(sequences.item_ids[order[0]]) > 50
    users = [sequences.user_ids[i] for i in order]
    expected = offline(workdir, info["release_id"], [sequences.item_ids[i] for i in order])
    problems = {}
    for user, ours in zip(users, expected, strict=True):
        answer = client.recommend(user_id=user, k=10)
        assert answer.source == "model"
        if problem := difference(Ranking(answer.item_ids, answer.scores), ours):
            problems[user] = problem
    assert not problems


def test_an_event_changes_the_next_answer_without_a_restart(
    served: tuple[Path, Recommender, dict],
) -> None:
    workdir, _, info = served
    sequences = sequences_of(workdir)
    user, items = sequences.user_ids[3], sequences.item_ids[3]
    ask = ("recommend", "--user", user, "--workdir", str(workdir), "--json")
    before = json.loads(tesserec(*ask).stdout)
    chosen = before["items"][0]["item_id"]
    pushed = tesserec(
        "event", "--user", user, "--item", chosen, "--workdir", str(workdir), "--json"
    )
    assert pushed.returncode == 0, pushed.stderr
    assert json.loads(pushed.stdout)["pushed"] is True
    after = json.loads(tesserec(*ask).stdout)
    assert after["recent"][-1] == chosen
    assert chosen not in [i["item_id"] for i in after["items"]]
    (expected,) = offline(workdir, info["release_id"], [[*items, chosen]])
    ours = Ranking([i["item_id"] for i in after["items"]], [i["score"] for i in after["items"]])
    assert difference(ours, expected) is None
    assert after["items"][0]["title"] and len(after["items"][0]["sid"]) == 8
    logged = (workdir / "events" / "log.jsonl").read_text()
    assert json.loads(logged.splitlines()[-1])["item_id"] == chosen


def test_an_unknown_item_or_user_is_answered_clearly(
    served: tuple[Path, Recommender, dict],
) -> None:
    workdir, client, _ = served
    answer = client.recommend(user_id="nobody at all", k=5)
    assert answer.source == "popular" and len(answer.item_ids) == 5
    bad = tesserec("event", "--user", "U000001", "--item", "", "--workdir", str(workdir))
    assert bad.returncode == 2 and "an event needs a user and an item" in bad.stderr
    typo = tesserec("event", "--user", "U000001", "--item", "NOPE", "--workdir", str(workdir))
    assert typo.returncode == 0 and "NOPE is not among the items" in typo.stderr


def test_a_second_server_of_the_workdir_is_refused(served: tuple[Path, Recommender, dict]) -> None:
    workdir, _, info = served
    second = tesserec("serve", "--workdir", str(workdir), "--json")
    assert second.returncode == 1 and info["grpc"] in json.loads(second.stdout)["error"]
    ask = tesserec("recommend", "--user", "U000002", "--workdir", str(workdir), "--json")
    assert ask.returncode == 0, ask.stderr


def test_a_bad_request_is_wrong_use(served: tuple[Path, Recommender, dict]) -> None:
    workdir, _, _ = served
    for arguments in (["-k", "0"], ["-k", "100000"], ["--rules", '{"unknown": 1}']):
        done = tesserec("recommend", "--user", "U000002", *arguments, "--workdir", str(workdir))
        assert done.returncode == 2 and "Traceback" not in done.stderr, arguments


def test_histories_in_the_store_are_the_sequences(served: tuple[Path, Recommender, dict]) -> None:
    workdir, _, _ = served
    (features,) = (workdir / "artifacts").glob("features-*")
    rows = ds.dataset(features / "user_history").to_table().num_rows
    assert rows == len(sequences_of(workdir).user_ids)
