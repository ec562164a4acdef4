"""Answers of the real server: parity, bad requests, events, withdrawals, promotion."""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tesserec.errors import RequestError, ServingError
from tesserec.features.push import push_event
from tesserec.recommender import Recommender as Offline
from tesserec.release import promote, release_folder
from tesserec.serving.client import Recommender
from tesserec.serving.connection import find_server
from tesserec.serving.exchange import MODEL_NAME, tensors
from tesserec.serving.features import open_reader
from tesserec.serving.rehearsal import (
    UNKNOWN_USER,
    Ranking,
    difference,
    offline_rankings,
    rehearse,
    sample_users,
)
from tesserec.serving.server_file import read_server_file
from tesserec.serving.triton import TritonProcess, point_at
from tests.fakes.metrics import scrape
from tests.fakes.release import item_id

pytestmark = pytest.mark.triton


def wait_for(what: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)


def test_every_user_is_answered_as_offline(shop: Any, client: Recommender) -> None:
    users = [f"U{n}" for n in range(150)] + [UNKNOWN_USER, "U150"]
    recommender = Offline.load(release_folder(shop.workdir, shop.releases[0]))
    reader = open_reader(shop.workdir)
    rows = reader.read(users)
    assert len(rows[3].history) == 50 and len(rows[3].seen) > 35  # 400 events
    offline = offline_rankings(recommender, reader, users, 50)

    def ask(user: str) -> Ranking:
        answer = client.recommend(user_id=user, k=50)
        return Ranking(answer.item_ids, answer.scores)

    with ThreadPoolExecutor(16) as pool:
        served = list(pool.map(ask, users))
    problems = [
        (user, problem)
        for user, ours, theirs in zip(users, served, offline, strict=True)
        if (problem := difference(ours, theirs))
    ]
    assert problems == []
    assert item_id(11) not in {item for ranking in served for item in ranking.item_ids}
    assert client.recommend(user_id="U150").source == "popular"


def test_a_candidate_is_rehearsed_beside_the_running_server(
    shop: Any, server: TritonProcess, project: Path
) -> None:
    users = sample_users(shop.features, 100)
    result = rehearse(shop.workdir, project, shop.releases[1], users)
    assert result["equal"], result["mismatches"][:3]
    assert result["users"] == 101
    assert 0 < result["latency_ms"]["p50"] <= result["latency_ms"]["p99"]
    assert read_server_file(shop.workdir)["pid"] == server.process.pid


def test_bad_requests_in_a_batch_of_good_ones(client: Recommender, server: TritonProcess) -> None:
    """Sent at once, histories of different lengths, different rules; only the bad ones fail."""
    rules = ({}, {"deny": ["brand:B1"]}, {"diversity": 2}, {"allow": ["price<=30"]})
    good = [
        (b"", [f"I{n:03d}".encode() for n in range(1 + i)], 5, json.dumps(rules[i % 4]).encode())
        for i in range(20)
    ]
    bad = [
        (b"", [], 0, b""),
        (b"", [], 1001, b""),
        (b"\xff\xfe", [], 5, b""),
        (b"", [b"I001", b"\xff"], 5, b""),
        (b"U1", [], 5, b'{"unknown": 1}'),
        (b"U1", [], 5, b'{"seed": NaN}'),
        (b"U1", [], 5, b"{"),
        (b"U1", [], 5, b'{"allow": ["brand:none"]}'),
        (b"U1", [], 5, b'{"explain": true, "deny": ["\\ud800"]}'),  # half a surrogate pair
        (b"U1", [], 5, b'{"%s": 1}' % (b"x" * 20_000)),  # the error must fit into gRPC's trailer
    ]
    alone = [
        client.recommend(history=[h.decode() for h in g[1]], k=5, rules=rules[i % 4]).item_ids
        for i, g in enumerate(good)
    ]
    time.sleep(2)  # numbers are told once a second
    before = _taken(server)
    for _ in range(5):
        mixed = [*good[:10], *bad, *good[10:]]
        answers = _burst(client, mixed)
        for request, answer in zip(mixed, answers, strict=True):
            if request in bad:
                assert "INVALID_ARGUMENT" in str(answer), (request, answer)
            else:
                assert [i.decode() for i in answer.as_numpy("item_id")[0]] == alone[
                    good.index(request)
                ]
    sent = 5 * (len(good) + len(bad))
    wait_for(lambda: _taken(server)[0] - before[0] >= sent)
    requests, batches = (now - then for now, then in zip(_taken(server), before, strict=True))
    assert requests == sent
    assert batches <= sent / 2, "requests of different history lengths and rules share batches"


def test_errors_reach_the_caller_in_our_words(client: Recommender) -> None:
    with pytest.raises(RequestError, match="k is 0"):
        client.recommend(k=0)
    with pytest.raises(RequestError, match="unknown rule 'x'"):
        client.recommend(rules={"x": 1})
    assert client.recommend(user_id="U5").source == "model"
    nobody = Recommender("127.0.0.1:1", timeout_s=1)
    assert not nobody.ready()
    with pytest.raises(ServingError, match=r"127\.0\.0\.1:1 did not answer: .*UNAVAILABLE"):
        nobody.recommend(user_id="U5")
    nobody.close()


def test_a_pushed_event_changes_the_next_answer(shop: Any, client: Recommender) -> None:
    rules = {"explain": True}
    before = client.recommend(user_id="U20", k=20, rules=rules)
    item = before.item_ids[0]
    push_event(shop.workdir, "U20", item)
    after = client.recommend(user_id="U20", k=20, rules=rules)
    assert after.history == [*before.history, item]
    assert item not in after.item_ids
    assert after.item_ids != before.item_ids
    push_event(shop.workdir, "brand new", "I005")
    new = client.recommend(user_id="brand new", rules=rules)
    assert (new.source, new.history) == ("model", ["I005"])


def test_withdrawn_items_vanish_within_seconds(shop: Any, client: Recommender) -> None:
    first = client.recommend(user_id="U30").item_ids[0]
    path = shop.workdir / "overlay" / "withdrawn"
    path.parent.mkdir(exist_ok=True)
    path.write_text(first)
    try:
        wait_for(lambda: first not in client.recommend(user_id="U30", k=60).item_ids, 10)
    finally:
        path.unlink()
    wait_for(lambda: client.recommend(user_id="U30").item_ids[0] == first, 10)


def test_promotion_changes_answers_without_a_restart(shop: Any, client: Recommender) -> None:
    old, new = shop.releases
    before = client.recommend(user_id="U40")
    assert before.release_id == old
    promote(shop.workdir, new)
    try:
        seen = []
        wait_for(lambda: seen.append(client.recommend(user_id="U40")) or seen[-1].release_id == new)
        assert all(answer.item_ids for answer in seen)
        assert {a.release_id for a in seen} <= {old, new}
        assert seen[-1].item_ids != before.item_ids
    finally:
        promote(shop.workdir, old)
    wait_for(lambda: client.recommend(user_id="U40").release_id == old)
    assert client.recommend(user_id="U40").item_ids == before.item_ids


def test_server_json_and_pointing_at_a_server(
    shop: Any, server: TritonProcess, client: Recommender, tmp_path: Path
) -> None:
    info = read_server_file(shop.workdir)
    assert info == server.info
    assert set(info) >= {"grpc", "http", "metrics", "pid", "release_id", "log"}
    assert info["release_id"] == shop.releases[0]
    assert find_server(shop.workdir) == (server.grpc, None)
    found = point_at(tmp_path, server.grpc)
    assert found["release_id"] == shop.releases[0]
    assert find_server(tmp_path) == (server.grpc, None)


def test_failing_requests_leak_no_shared_memory(client: Recommender) -> None:
    def shared() -> int:
        return sum(p.stat().st_size for p in Path("/dev/shm").glob("triton_python_backend*"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: _refused(client), range(100)))
        before = shared()
        list(pool.map(lambda _: _refused(client), range(1000)))
    assert shared() <= before + 2**20


def _refused(client: Recommender) -> None:
    with pytest.raises(RequestError):
        client.recommend(k=0, rules={"deny": ["x" * 100] * 50})


def _burst(client: Recommender, requests: list[tuple[bytes, list[bytes], int, bytes]]) -> list[Any]:
    """All requests at once; a result or an exception for each."""
    done: queue.Queue[tuple[int, Any]] = queue.Queue()
    for place, request in enumerate(requests):
        client._client.async_infer(
            MODEL_NAME,
            tensors(*request),
            callback=lambda result, error, place=place: done.put((place, error or result)),
            client_timeout=30,
        )
    answers = dict(done.get(timeout=30) for _ in requests)
    return [answers[place] for place in range(len(requests))]


def _taken(server: TritonProcess) -> tuple[float, float]:
    """How many requests were answered, and in how many batches."""
    found = scrape(server)
    batches = found["tesserec_stage_seconds_count", "stage=total"]
    return found["tesserec_queue_seconds_count",], batches
