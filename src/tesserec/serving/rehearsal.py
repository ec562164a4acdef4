"""Rehearse a release: a throw-away Triton must answer as the release does offline."""

from __future__ import annotations

import hashlib
import heapq
import importlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tesserec.artifacts import Artifact
from tesserec.config import ExposureSettings, ServeSettings
from tesserec.decoders.constraints import Constraints, pack_bits
from tesserec.errors import TesserecError
from tesserec.release.manifest import release_folder
from tesserec.serving import triton
from tesserec.serving.client import Recommender
from tesserec.serving.features import Reader, UserRow, open_reader
from tesserec.serving.overlay import Overlay

log = logging.getLogger(__name__)
TOLERANCE = 1e-4  # relative; docs/serving.md
DEPTH = 50  # items compared for each user
LATENCY_K = 10
CALLERS = 8  # at once, so that the server batches them
RETRIES = 10  # a batch on a busy machine may take longer than the queue allows to wait
UNKNOWN_USER = "\N{SNOWMAN} no such user"
BUDGET_MS = 10_000.0  # of the feature store: answers are compared, and a degraded one differs
LONGEST = 10  # users with the longest histories are always among those asked


@dataclass(frozen=True)
class Ranking:
    """One user's items with scores, best first."""

    item_ids: Sequence[str]
    scores: Sequence[float]


def rehearse(
    workdir: Path,
    project: Path | None,
    release_id: str,
    users: Sequence[str],
    *,
    settings: ServeSettings | None = None,
    reader: Callable[[Path], Reader] = open_reader,
    models: Path | None = None,
) -> dict[str, Any]:
    """Ask a throw-away server for these users and compare.

    A user whom an event reached meanwhile is left out: the two answers are of two histories. So is
    one whose history tells the model nothing: the server then takes popular items of its category.

    Returns:
        `{release_id, users, equal, mismatches: [{user_id, problem, served, offline}],
        latency_ms: {p50, p95, p99}, seconds_to_ready}`; latency is one caller's, k = 10.

    Raises:
        ServingError: the server did not become ready or did not answer.
        TesserecError: an event reached every one of the users.
    """
    from tesserec.recommender import Recommender as Offline

    settings = settings or ServeSettings()
    settings = replace(
        settings,
        features=replace(settings.features, budget_ms=BUDGET_MS),
        exposure=ExposureSettings(share=0),  # nobody sees
    )
    warm = threading.Thread(target=_import_feast, daemon=True)
    warm.start()  # the server imports it too, meanwhile
    asked = [*users, UNKNOWN_USER]
    with triton.start(
        workdir, project, release=release_id, settings=settings, publish=False, models=models
    ) as server:
        warm.join()
        store = reader(workdir)
        before = store.read(asked)
        with (
            Recommender(server.grpc, timeout_s=30, retries=RETRIES) as client,
            ThreadPoolExecutor(CALLERS) as pool,
        ):
            served = list(pool.map(lambda user: _ask(client, user, DEPTH), asked))
            rows = store.read(asked)
            seconds = [_timed(client, user) for user in users]
        ready = server.seconds_to_ready
    recommender = Offline.load(release_folder(workdir, release_id))
    withdrawn = Overlay(workdir).read() or frozenset()
    offline = rankings(recommender, rows, DEPTH, withdrawn=withdrawn)
    same = [
        _history(old) == _history(new) and not _untold(recommender, new)
        for old, new in zip(before, rows, strict=True)
    ]
    if not any(same[: len(users)]):
        raise TesserecError("events reached all users while they were rehearsed; run again")
    mismatches = []
    for user, ours, theirs in itertools.compress(zip(asked, served, offline, strict=True), same):
        problem = difference(ours, theirs)
        if problem:
            mismatches.append(_mismatch(user, problem, ours, theirs))
    p50, p95, p99 = (round(1000 * float(np.quantile(seconds, q)), 3) for q in (0.5, 0.95, 0.99))
    return {
        "release_id": release_id,
        "users": sum(same),
        "equal": not mismatches,
        "mismatches": mismatches,
        "latency_ms": {"p50": p50, "p95": p95, "p99": p99},
        "seconds_to_ready": round(ready, 2),
    }


def offline_rankings(
    recommender: Any,
    reader: Reader,
    users: Sequence[str],
    k: int,
    *,
    withdrawn: frozenset[str] = frozenset(),
) -> list[Ranking]:
    """What the release recommends to these users without any server: seen items are left out."""
    return rankings(recommender, reader.read(users), k, withdrawn=withdrawn)


def rankings(
    recommender: Any, rows: Sequence[UserRow], k: int, *, withdrawn: frozenset[str] = frozenset()
) -> list[Ranking]:
    """As `offline_rankings`, of features that were read already."""
    row_of, items = recommender.row_of, recommender.items
    shown = np.ones(len(row_of), bool)
    if "available" in items.column_names:
        shown = np.array([flag is not False for flag in items["available"].to_pylist()], bool)
    shown[[row_of[item] for item in withdrawn if item in row_of]] = False
    histories = [[item for item in row.history if item in row_of] for row in rows]
    seen = [set(row.seen) | set(row.history) for row in rows]
    deny = [np.array(sorted(row_of[i] for i in s if i in row_of), np.int64) for s in seen]
    ids, scores = recommender.recommend(
        histories, min(k, len(row_of)), Constraints(allowed=pack_bits(shown), deny=deny)
    )
    return [Ranking(i, s.tolist()) for i, s in zip(ids, scores, strict=True)]


def difference(first: Ranking, second: Ranking, tolerance: float = TOLERANCE) -> str | None:
    """How two rankings differ, or None if they are equal.

    Equal: as long as each other, scores within `tolerance` relative place by place, and the same
    items, but that items whose scores are within it may change places (at the end, with items
    that are not in the list).
    """
    if len(first.item_ids) != len(second.item_ids):
        return f"{len(first.item_ids)} items against {len(second.item_ids)}"
    if not first.item_ids:
        return None
    a, b = np.asarray(first.scores, np.float64), np.asarray(second.scores, np.float64)
    slack = tolerance * np.maximum(np.maximum(np.abs(a), np.abs(b)), 1e-9)
    for place in np.flatnonzero(~(np.abs(a - b) <= slack)):  # a NaN differs from all
        return f"place {place + 1}: score {a[place]:.6g} against {b[place]:.6g}"
    other = dict(zip(second.item_ids, b, strict=True))
    for place, item in enumerate(first.item_ids):
        theirs = other.get(item, b[-1])  # not in the list: then it must tie with its end
        if abs(a[place] - theirs) > slack[place]:
            return f"place {place + 1}: item {item} against {second.item_ids[place]}"
    return None


def sample_users(features: Artifact, count: int) -> list[str]:
    """Users to ask: the longest histories, the rest spread evenly by a hash of their ids."""
    long: list[tuple[int, str]] = []
    spread: list[tuple[int, str]] = []
    for user, length in _history_lengths(features):
        digest = int.from_bytes(hashlib.sha256(user.encode()).digest()[:7], "big")
        _keep(spread, (-digest, user), count)
        _keep(long, (length, user), min(LONGEST, count))
    users = dict.fromkeys([user for _, user in sorted(long, reverse=True)])
    users |= dict.fromkeys([user for _, user in sorted(spread, reverse=True)])
    if not users:
        raise TesserecError(f"{features.path} has no user histories to rehearse with")
    return list(users)[:count]


def _history_lengths(features: Artifact) -> Iterator[tuple[str, int]]:
    """(user, events), a batch at a time; a user comes once for each cut."""
    import pyarrow.dataset as ds

    table = ds.dataset(features.file("user_history"), format="parquet")
    for batch in table.to_batches(columns=["user_id", "item_ids"]):
        lengths = batch["item_ids"].value_lengths().to_pylist()
        yield from zip(batch["user_id"].to_pylist(), (n or 0 for n in lengths), strict=True)


def _keep(heap: list[tuple[int, str]], entry: tuple[int, str], size: int) -> None:
    """Keep the `size` largest distinct entries."""
    if (heap and len(heap) == size and entry <= heap[0]) or entry in heap:
        return
    (heapq.heappush if len(heap) < size else heapq.heappushpop)(heap, entry)


def _ask(client: Recommender, user: str, k: int) -> Ranking:
    answer = client.recommend(user_id=user, k=k)
    return Ranking(answer.item_ids, answer.scores)


def _timed(client: Recommender, user: str) -> float:
    began = time.perf_counter()
    _ask(client, user, LATENCY_K)
    return time.perf_counter() - began


def _mismatch(user: str, problem: str, ours: Ranking, theirs: Ranking) -> dict[str, Any]:
    return {
        "user_id": user,
        "problem": problem,
        "served": list(zip(ours.item_ids[:5], ours.scores[:5], strict=True)),
        "offline": list(zip(theirs.item_ids[:5], theirs.scores[:5], strict=True)),
    }


def _history(row: UserRow) -> tuple[list[str], set[str]]:
    return list(row.history), set(row.seen)


def _untold(recommender: Any, row: UserRow) -> bool:
    known = recommender.rows(row.history)
    return len(known) > 0 and not recommender.tells(known)


def _import_feast() -> None:
    try:
        importlib.import_module("feast")
    except ImportError:  # an injected reader needs none; open_reader says it properly
        log.info("feast is not installed")
