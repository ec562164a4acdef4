"""The gate steps on small artefacts: when they say no, and that a second call is cheap."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from tesserec.artifacts import Artifact, build
from tesserec.config import RunConfig, from_dict
from tesserec.errors import GateFailed
from tesserec.steps import gate_codes, gate_features, gate_metrics, gate_raw
from tesserec.validation import read_verdict
from tests.fakes.raw import catalogue, random_events, raw_artifact
from tests.fakes.release import item_id, tiny_release

CUT = 1_700_000_000


def _write(folder: Path, tables: Mapping[str, pa.Table]) -> None:
    for name, table in tables.items():
        (folder / name).mkdir()
        pq.write_table(table, folder / name / "part-00000.parquet")


def features_artifact(workdir: Path, *, late: bool = False, users: int = 30) -> Artifact:
    """Users with five events each over the tiny release's items; `late`: one after the cut."""
    rng = np.random.default_rng(0)
    ids = [f"u{u:02d}" for u in range(users)]
    items = [[item_id(int(i)) for i in rng.choice(60, 5, replace=False)] for _ in ids]
    times = [[CUT - 100 + u + e for e in range(5)] for u in range(users)]
    when = pa.array([datetime.fromtimestamp(CUT, UTC)] * users, pa.timestamp("us", "UTC"))
    history_times = [list(t) for t in times]
    if late:
        history_times[3][-1] = CUT
    names = [item_id(i) for i in range(60)]
    cut_of_items = pa.array([datetime.fromtimestamp(CUT, UTC)] * 60, pa.timestamp("us", "UTC"))
    counts = {f"{w}_{d}d": [1] * 60 for w in ("count", "users") for d in (1, 7, 30)}
    tables = {
        "sequences": pa.table({"user_id": ids, "item_ids": items, "timestamps": times}),
        "user_history": pa.table(
            {
                "user_id": ids,
                "item_ids": items,
                "timestamps": history_times,
                "seen_items": items,
                "event_timestamp": when,
            }
        ),
        "item_profile": pa.table(
            {"item_id": names, "row": range(60), "listed_at": pa.nulls(60, pa.int64())}
        ),
        "item_stats": pa.table(
            {
                "item_id": names,
                "event_timestamp": cut_of_items,
                **counts,
                "count_all": [1] * 60,
                "first_seen": [CUT - 9] * 60,
                "last_seen": [CUT - 1] * 60,
            }
        ),
    }

    def make(folder: Path) -> None:
        _write(folder, tables)
        summary = {"cuts": {"train": None, "watermark": CUT}, "watermark": CUT, "has_times": True}
        (folder / "summary.json").write_text(json.dumps(summary))

    params = {"late": late, "users": users}
    return build(workdir, "features", params=params, parents=(), version=1, make=make)[0]


def test_raw_data_pass_and_the_second_call_needs_no_great_expectations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = raw_artifact(tmp_path, random_events(40, 20, 9), catalogue(20))
    first = gate_raw.run(tmp_path, RunConfig(), raw)
    assert read_verdict(first.path).passed
    monkeypatch.setitem(sys.modules, "great_expectations", None)  # an import would raise
    assert gate_raw.run(tmp_path, RunConfig(), raw) == first


def test_raw_data_without_times_pass(tmp_path: Path) -> None:
    raw = raw_artifact(tmp_path, random_events(40, 20, 9, times=False), catalogue(20))
    assert read_verdict(gate_raw.run(tmp_path, RunConfig(), raw).path).passed


def test_too_few_rows_and_unknown_items_stop_the_run_each_time(tmp_path: Path) -> None:
    events = random_events(20, 20, 5)
    raw = raw_artifact(tmp_path, events, catalogue(10))
    config = from_dict({"gates": {"min_rows": 1000}})
    said = f"found {len(events)}, wanted min 1000"
    with pytest.raises(GateFailed, match=said):
        gate_raw.run(tmp_path, config, raw)
    with pytest.raises(GateFailed, match=said) as caught:  # the verdict is there already
        gate_raw.run(tmp_path, config, raw)
    failed = read_verdict(caught.value.artifact.path).criticals
    assert {f["column"] for f in failed} == {None, "known_item"}
    assert any("user_id" in e for f in failed for e in f["examples"])


def test_features_pass_and_a_look_into_the_future_does_not(tmp_path: Path) -> None:
    config = RunConfig()
    good = gate_features.run(tmp_path, config, features_artifact(tmp_path))
    assert read_verdict(good.path).rows["user_history"] == 30
    with pytest.raises(GateFailed, match=r'user_history\.before_cut.*"user_id": "u03"'):
        gate_features.run(tmp_path, config, features_artifact(tmp_path, late=True))


def _coded(
    workdir: Path, codes: np.ndarray, vectors: np.ndarray, error: float | None = 0.4
) -> tuple[Artifact, Artifact]:
    ids = pa.table({"item_id": [item_id(i) for i in range(len(vectors))]})

    def make_vectors(folder: Path) -> None:
        np.save(folder / "vectors.npy", vectors)
        pq.write_table(ids, folder / "item_ids.parquet")

    def make_codes(folder: Path) -> None:
        save_file({"codes": codes}, folder / "codes.safetensors")
        pq.write_table(ids.slice(0, len(codes)), folder / "item_ids.parquet")
        quality = {
            "codebook_size": 16,
            "centres": 16,
            "reconstruction_error": {"training_items": error, "held_out": None},
            "neighbours": {"same_leaf": None, "chance": None},
        }
        (folder / "quality.json").write_text(json.dumps(quality))

    params = {"codes": codes.tolist(), "finite": bool(np.isfinite(vectors).all()), "error": error}
    return (
        build(workdir, "vectors", params=params, parents=(), version=1, make=make_vectors)[0],
        build(workdir, "codes", params=params, parents=(), version=1, make=make_codes)[0],
    )


def test_only_a_given_code_table_may_lack_its_errors(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 16, (60, 4)).astype(np.uint8)
    parents = _coded(tmp_path, codes, rng.normal(size=(60, 8)).astype(np.float32), error=None)
    given = from_dict({"tokenizer": {"name": "given", "codes": "codes.npy"}})
    assert read_verdict(gate_codes.run(tmp_path, given, *parents).path).passed
    other = tmp_path / "other"
    parents = _coded(other, codes, rng.normal(size=(60, 8)).astype(np.float32), error=None)
    with pytest.raises(GateFailed, match="error_training"):
        gate_codes.run(other, RunConfig(), *parents)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (None, None),
        ("nan", r'vectors\.finite: 1\.67% of 60 rows are bad, wanted .*"item_id": "I007"'),
        ("range", r'codes\.highest: 1\.67% of 60 rows are bad, wanted max 15.*"item_id": "I007"'),
        ("missing", "codes: found 59|vectors: found 60"),
        ("collapsed", r"codebooks\.entropy: 75\.00%"),
    ],
)
def test_vectors_and_codes(tmp_path: Path, break_it: str | None, message: str | None) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 8)).astype(np.float32)
    codes = rng.integers(0, 16, (60, 4)).astype(np.uint8)
    if break_it == "nan":
        vectors[7, 2] = np.nan
    if break_it == "range":
        codes[7, 2] = 16
    if break_it == "missing":
        codes = codes[:-1]
    if break_it == "collapsed":
        codes[:, 1:] = 3
    parents = _coded(tmp_path, codes, vectors)
    if message is None:
        assert read_verdict(gate_codes.run(tmp_path, RunConfig(), *parents).path).passed
        return
    with pytest.raises(GateFailed) as caught:
        gate_codes.run(tmp_path, RunConfig(), *parents)
    said = "; ".join(
        f"{f['table']}.{f['column']}: {f['message']} {json.dumps(f['examples'])}"
        for f in read_verdict(caught.value.artifact.path).criticals
    ).replace(".None", "")
    assert re.search(message, said), said


def metrics_artifact(
    workdir: Path, features: Artifact, ours: Sequence[int], popularity: Sequence[int]
) -> Artifact:
    """Ranks of the test users, one a user of `features`."""

    def make(folder: Path) -> None:
        (folder / "metrics.json").write_text(json.dumps({"model": "rpg"}))
        columns: dict[str, Any] = {"user_id": [f"u{u:02d}" for u in range(len(ours))]}
        for name, ranks in (("rpg", ours), ("popularity", popularity)):
            columns[f"{name}_rank_kept"] = np.array(ranks, np.int32)
        columns["target_freq"] = np.arange(len(ours), dtype=np.int32)
        columns["history_length"] = np.full(len(ours), 4, np.int32)
        pq.write_table(pa.table(columns), folder / "per_user.parquet")

    params = {"ours": list(ours)}
    return build(workdir, "metrics", params=params, parents=(features,), version=1, make=make)[0]


def test_first_release_must_beat_popularity_for_sure(tmp_path: Path) -> None:
    features, config = features_artifact(tmp_path), RunConfig()
    better = metrics_artifact(tmp_path, features, [1] * 20 + [0] * 10, [9] * 30)
    verdict = read_verdict(gate_metrics.run(tmp_path, config, better).path)
    assert verdict.passed and list(verdict.rows) == ["against_popularity"]
    # Above on average, by one user: chance.
    lucky = metrics_artifact(tmp_path, features, [1] + [0] * 29, [0] * 30)
    with pytest.raises(GateFailed, match=r"against_popularity\.low"):
        gate_metrics.run(tmp_path, config, lucky)


def test_later_releases_are_compared_with_the_promoted_one(tmp_path: Path) -> None:
    from tesserec.release import promote

    release_id = tiny_release(tmp_path)
    promote(tmp_path, release_id)
    features, config = features_artifact(tmp_path), RunConfig()
    perfect = metrics_artifact(tmp_path, features, [1] * 30, [0] * 30)
    gate = gate_metrics.run(tmp_path, config, perfect)
    comparison = gate.read_json("comparison.json")
    assert comparison["promoted"] == release_id and comparison["users"] == 30
    assert 0 <= comparison["kept"]["recall@10"] <= 1
    assert set(read_verdict(gate.path).rows) == {"against_promoted", "slices"}
    hopeless = metrics_artifact(tmp_path, features, [0] * 30, [0] * 30)
    with pytest.raises(GateFailed, match=r"against_promoted\.low"):
        gate_metrics.run(tmp_path, config, hopeless)


def test_the_promoted_release_is_not_compared_with_itself(tmp_path: Path) -> None:
    features = features_artifact(tmp_path)
    metrics = metrics_artifact(tmp_path, features, [1] * 30, [0] * 30)
    assert gate_metrics.rival(tmp_path, metrics) is None
    for number, key in enumerate([metrics.key, "another"]):
        release_id = f"r0000000000{number}"
        folder = tmp_path / "releases" / release_id
        folder.mkdir(parents=True)
        manifest = {
            "release_id": release_id,
            "parts": {},
            "files": {},
            "sources": {"metrics": key},
            "created": "2026-01-01T00:00:00",
            "parent": None,
            "model": "rpg",
            "feature_service": "recommend_v1",
            "feature_schema_hash": "0",
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))
        (tmp_path / "promoted").write_text(json.dumps({"release_id": release_id}))
        assert gate_metrics.rival(tmp_path, metrics) == (None if number == 0 else release_id)
