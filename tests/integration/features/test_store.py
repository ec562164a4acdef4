"""Feast, really: SQLite with a registry file, and Redis with a SQL registry."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tesserec.artifacts import Artifact
from tesserec.config import RunConfig
from tesserec.errors import DataError, ServingError, UsageError
from tesserec.features import proof, publish, sync
from tesserec.features.apply import apply, load_definitions, registry
from tesserec.features.state import read_state
from tesserec.features.store import FeatureReader, UserFeatures, open_store
from tesserec.project import find_project
from tesserec.steps import feature_store
from tests.command import ROOT
from tests.fakes import feature_oracle as oracle
from tests.fakes.raw import Event

SERVE = ROOT / ".venv-serve" / "bin" / "python"
LENGTH = 50
Make = Callable[[list[Event]], Artifact]


def expected(events: list[Event]) -> list[UserFeatures]:
    users = oracle.ordered(events)
    rows = []
    for user in sorted(users):
        items, times, seen = oracle.history(users[user], 2**60, LENGTH, 1000)
        rows.append(UserFeatures(user, items, times, set(seen), True))
    return rows


def online(workdir: Path, events: list[Event]) -> list[UserFeatures]:
    return FeatureReader(workdir / "feature_store").read(sorted({e[0] for e in events}))


def published(workdir: Path) -> list[Path]:
    return sorted((workdir / "feature_store" / publish.OFFLINE / "user_history").glob("*"))


def later(events: list[Event], users: int) -> list[Event]:
    """One more event of each of the first users, a month after the last one."""
    at = max(t for _, _, t, _ in events if t is not None) + 30 * 86_400
    return [*events, *((f"u{n}", "i39", at + n, 1_000) for n in range(users))]


def test_every_user_is_read_as_computed(
    tmp_path: Path, made: Artifact, events: list[Event]
) -> None:
    assert online(tmp_path, events) == expected(events)
    reader = FeatureReader(tmp_path / "feature_store")
    assert reader.read(["nobody"]) == [UserFeatures("nobody")]
    assert reader.read([]) == []
    store = feature_store.run(tmp_path, RunConfig(), made).read_json("store.json")
    assert reader.schema_hash == store["schema_hash"] and store["service"] == "recommend_v1"


def test_a_second_call_returns_at_once_and_a_lost_state_is_made_up_for(
    tmp_path: Path, config: RunConfig, made: Artifact, events: list[Event]
) -> None:
    started = time.perf_counter()
    feature_store.run(tmp_path, config, made)
    assert time.perf_counter() - started < 0.5
    folder = tmp_path / "feature_store"
    (folder / "state.json").unlink()
    for database in folder.glob("online.db*"):
        database.unlink()
    feature_store.run(tmp_path, config, made)
    assert online(tmp_path, events) == expected(events)


def test_edited_definitions_are_applied_by_the_next_run(
    tmp_path: Path, config: RunConfig, made: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = feature_store.run(tmp_path, config, made)
    project = tmp_path / "edited"
    shutil.copytree(find_project() / "feature_repo", project / "feature_repo")
    (project / "pipelines").mkdir()
    views = project / "feature_repo" / "views.py"
    views.write_text(views.read_text() + "\n# a remark\n")
    with monkeypatch.context() as patch:
        patch.setenv("TESSEREC_PROJECT", str(project))
        after = feature_store.run(tmp_path, config, made)
    assert after.key != before.key
    assert feature_store.run(tmp_path, config, made).key == before.key


def test_the_join_gives_one_row_a_user_and_nothing_of_the_future(
    tmp_path: Path, made: Artifact, events: list[Event]
) -> None:
    summary = made.read_json("summary.json")
    users = oracle.ordered(events)
    assert any(seq[0][1] >= summary["cuts"]["train"] for seq in users.values())  # one with nothing
    store = open_store(tmp_path / "feature_store")
    asked = pa.array(sorted(users)[::-1])  # the order of the question is kept
    for cut in summary["cuts"].values():
        table = proof.histories_at(store, asked, cut)
        assert table["user_id"].to_pylist() == asked.to_pylist()
        for row in table.to_pylist():
            items, times, _ = oracle.history(users[row["user_id"]], cut, LENGTH, 1000)
            assert (row["item_ids"] or [], row["timestamps"] or []) == (items, times)


def test_a_leak_stops_the_build_before_anything_is_served(
    tmp_path: Path, config: RunConfig, made: Artifact, make_features: Make, events: list[Event]
) -> None:
    """A row that claims to be of the training cut holds an event of after it."""
    folder = tmp_path / "feature_store"
    more = make_features(later(events, 3))
    publish.publish(more, folder)
    path = next(p for p in published(tmp_path) if more.key in p.name and pq.read_table(p).num_rows)
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[0]["item_ids"] = [*rows[0]["item_ids"][:-1], "i_future"]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    with pytest.raises(DataError, match=f"(?s)1 users.*{rows[0]['user_id']}.*i_future"):
        feature_store.run(tmp_path, config, more)
    assert online(tmp_path, events) == expected(events)
    assert read_state(folder)["features"] == made.key


def test_a_join_that_loses_rows_is_noticed(tmp_path: Path, made: Artifact) -> None:
    """Users asked for twice come back twice; a store that merged them would be caught."""
    store = open_store(tmp_path / "feature_store")

    class Lossy:
        def get_historical_features(self, **asked: object) -> object:
            job = store.get_historical_features(**asked)  # pyright: ignore[reportArgumentType]

            class Job:
                def to_arrow(self) -> pa.Table:
                    return job.to_arrow().slice(1)

            return Job()

    with pytest.raises(DataError, match="1 rows for 2 users"):
        proof.histories_at(Lossy(), pa.array(["u1", "u2"]), 2**31)  # pyright: ignore[reportArgumentType]


def test_created_timestamp_decides_between_equals_and_hides_what_was_not_known(
    tmp_path: Path, made: Artifact
) -> None:
    """A backfill of an old cut: the newest creation wins; "as known" leaves it out."""
    cut = made.read_json("summary.json")["cuts"]["watermark"]
    moment = datetime.fromtimestamp(cut, UTC)
    table = pq.read_table(published(tmp_path)[-1])

    def write(name: str, item: str, created: datetime) -> None:
        row = {
            "user_id": "late",
            "item_ids": [item],
            "timestamps": [1],
            "seen_items": [item],
            "event_timestamp": moment,
            "created_timestamp": created,
        }
        path = published(tmp_path)[0].with_name(name)
        pq.write_table(pa.Table.from_pylist([row], schema=table.schema), path)

    store = open_store(tmp_path / "feature_store")

    def asked(as_known: bool) -> list[str] | None:
        found = proof.histories_at(store, pa.array(["late"]), cut, as_known=as_known)
        return found["item_ids"].to_pylist()[0]

    write("z-backfill.parquet", "backfilled", moment + timedelta(days=400))
    assert asked(as_known=False) == ["backfilled"] and asked(as_known=True) is None
    write("a-known.parquet", "known", moment)
    assert asked(as_known=False) == ["backfilled"] and asked(as_known=True) == ["known"]
    sync.materialize(tmp_path / "feature_store", moment - timedelta(1), moment + timedelta(1))
    read = FeatureReader(tmp_path / "feature_store").read(["late"])
    assert read[0].history == ["backfilled"]


def test_only_changed_users_are_published_and_all_are_served(
    tmp_path: Path, config: RunConfig, made: Artifact, make_features: Make, events: list[Event]
) -> None:
    before = set(published(tmp_path))
    more = later(events, 3)
    # The training cut moves with the share of events; only the watermark's file is looked at.
    artifact = make_features(more)
    feature_store.run(tmp_path, config, artifact)
    watermark = artifact.read_json("summary.json")["watermark"]
    (new,) = (p for p in set(published(tmp_path)) - before if str(watermark) in p.name)
    assert pq.read_table(new)["user_id"].to_pylist() == ["u0", "u1", "u2"]
    assert online(tmp_path, more) == expected(more)


def test_an_older_snapshot_changes_nothing_online(
    tmp_path: Path, config: RunConfig, made: Artifact, make_features: Make, events: list[Event]
) -> None:
    cut = made.read_json("summary.json")["cuts"]["train"]
    old = make_features([e for e in events if e[2] is not None and e[2] < cut - 9 * 86_400])
    feature_store.run(tmp_path, config, old)
    assert online(tmp_path, events) == expected(events)
    epoch = datetime.fromtimestamp(0, UTC)
    sync.materialize(
        tmp_path / "feature_store", epoch, datetime.fromtimestamp(cut, UTC)
    )  # by hand, bounded
    assert online(tmp_path, events) == expected(events)


def test_a_correction_of_the_same_watermark_is_served(
    tmp_path: Path, config: RunConfig, made: Artifact, make_features: Make, events: list[Event]
) -> None:
    """A late event changes the history at a watermark that was published before."""
    more = [*events, ("u1", "i39", 1_600_000_000, 500)]
    artifact = make_features(more)
    assert (
        artifact.read_json("summary.json")["watermark"]
        == made.read_json("summary.json")["watermark"]
    )
    feature_store.run(tmp_path, config, artifact)
    assert online(tmp_path, more) == expected(more)


def test_a_run_killed_between_its_parts_is_made_up_for(
    tmp_path: Path,
    config: RunConfig,
    made: Artifact,
    make_features: Make,
    events: list[Event],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    more = later(events, 3)
    artifact = make_features(more)

    def killed(*_: object) -> None:
        raise ServingError("the online store is away")

    with monkeypatch.context() as patch:
        patch.setattr(sync, "_materialize", killed)
        with pytest.raises(ServingError):
            feature_store.run(tmp_path, config, artifact)
    assert online(tmp_path, events) == expected(events)
    # Another run, of yet more events, comes first; the rows of the killed one are not forgotten.
    again = [*more, ("u9", "i1", max(e[2] or 0 for e in more) + 5, 2_000)]
    feature_store.run(tmp_path, config, make_features(again))
    assert online(tmp_path, again) == expected(again)


def test_a_service_is_never_edited(tmp_path: Path, made: Artifact) -> None:
    folder = tmp_path / "feature_store"
    before = FeatureReader(folder).schema_hash
    edited = tmp_path / "edited"
    shutil.copytree(ROOT / "feature_repo", edited, ignore=shutil.ignore_patterns("__pycache__"))
    views = (edited / "views.py").read_text()
    (edited / "views.py").write_text(views.replace('"seen_items"', '"seen"'))
    with pytest.raises(UsageError, match="add a new service"), registry(folder) as store:
        apply(store, edited, folder)
    assert FeatureReader(folder).schema_hash == before


def test_definitions_are_loaded_by_path_and_forgotten(tmp_path: Path) -> None:
    import sys

    names = {o.name for o in load_definitions(ROOT / "feature_repo", tmp_path)}
    assert {"user", "item", "user_history", "user_recent", "recommend_v1"} <= names
    assert not {"views", "services", "entities", "sources"} & set(sys.modules)
    with pytest.raises(UsageError, match="lacks a definition file"):
        load_definitions(tmp_path, tmp_path)


def test_an_away_online_store_is_an_error_of_ours(
    tmp_path: Path, made: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = FeatureReader(tmp_path / "feature_store")

    def away(*_: object, **__: object) -> None:
        raise ConnectionError("refused")

    monkeypatch.setattr(reader._store, "get_online_features", away)
    with pytest.raises(ServingError, match="refused"):
        reader.read(["u1"])


@pytest.mark.skipif(
    not SERVE.exists() and not os.environ.get("CI"),
    reason="no serving environment (.venv-serve); `make install` makes it",
)
def test_the_serving_environment_reads_the_same(
    tmp_path: Path, made: Artifact, events: list[Event]
) -> None:
    """numpy 1, no DuckDB: the same store, the same rows, and a push from there."""
    code = (
        "import json, pathlib, sys\n"
        "from tesserec.features.store import FeatureReader\n"
        "from tesserec.features.push import push_event\n"
        "workdir = pathlib.Path(sys.argv[1])\n"
        "push_event(workdir, 'u0', 'pushed', 1700000000)\n"
        "reader = FeatureReader(workdir / 'feature_store')\n"
        "rows = reader.read(json.loads(sys.argv[2]))\n"
        "print(json.dumps([reader.schema_hash, [[r.history, r.times] for r in rows]]))\n"
    )
    users = sorted({e[0] for e in events})
    done = subprocess.run(
        [str(SERVE), "-c", code, str(tmp_path), json.dumps(users)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    schema, rows = json.loads(done.stdout.splitlines()[-1])
    mine = FeatureReader(tmp_path / "feature_store")
    assert schema == mine.schema_hash
    assert rows == [[r.history, r.times] for r in mine.read(users)]
    assert rows[0][0][-1] == "pushed"
