"""A replay of a small generated shop through the command line: rows, order, kills, no leak."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import yaml

from tesserec.artifacts import Artifact, open_artifact, write_manifest
from tesserec.cli.main import main
from tesserec.config import RunConfig, from_dict
from tesserec.data.schemas import INTERACTIONS, ITEMS
from tesserec.errors import UsageError
from tesserec.retokenization import replay as library
from tesserec.retokenization.replay_blocks import cut, read_timeline
from tesserec.retokenization.replay_cells import Bench
from tesserec.retokenization.replay_models import model_of
from tesserec.retokenization.replay_tables import POLICIES, table_of
from tesserec.steps import ingest

SHOP = {
    "name": "replay",
    "data": {"source": "generated", "generated_users": 400, "generated_items": 200},
    "encoder": {"lsa_dim": 32, "pca_dim": 16},
    "tokenizer": {"digits": 4, "codebook_size": 16, "iterations": 5},
    "model": {"dim": 32, "ffn": 32, "item_loss": 0.5},
    "training": {"epochs": 6, "batch_users": 32, "learning_rate": 0.005, "threads": 1},
}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("replay")


@pytest.fixture(scope="module")
def table(work: Path) -> dict[str, Any]:
    (work / "shop.yaml").write_text(yaml.safe_dump(SHOP))
    with contextlib.redirect_stdout(io.StringIO()) as told:
        assert main([*command(work), "--json"]) == 0
    return json.loads(told.getvalue())


def command(work: Path) -> list[str]:
    return [
        "bench",
        "replay",
        str(work / "shop.yaml"),
        "--workdir",
        str(work / "w"),
        "--cases=200",
        "--updates=none,tune,soft",
    ]


def test_each_policy_has_a_row_a_block_with_each_update(table: dict[str, Any]) -> None:
    rows = {(r["block"], r["policy"], r["update"]): r for r in table["rows"]}
    assert len(rows) == len(table["rows"])
    for block in (1, 2, 3):
        for policy in POLICIES:
            assert {(block, policy, update) for update in ("none", "tune", "soft")} <= rows.keys()
        assert (block, "retrain", "retrain") in rows
        assert rows[block, "frozen", "tune"]["churn"] == 0
        assert rows[block, "rebuild", "none"]["churn"] > 0.9
        moved, cold = (rows[block, p, "none"]["churn_digits"] for p in ("hysteresis", "rebuild"))
        assert 0 < moved < 0.3 < cold
        assert rows[block, "aligned", "none"]["churn_digits"] < cold
    for row in table["rows"]:
        assert 0 <= row["ndcg@10"] <= row["recall@10"] <= row["recall@50"] <= 1
        assert row["seconds"] >= 0 and row["cases"] == 200
        assert sum(age["cases"] for age in row["ages"].values()) == 200


def test_codes_without_their_model_are_worth_little_and_tuning_pays(table: dict[str, Any]) -> None:
    """A new codebook under the old model is far below the old codebook."""

    def mean(policy: str, update: str) -> float:
        found = [
            r["ndcg@10"] for r in table["rows"] if (r["policy"], r["update"]) == (policy, update)
        ]
        return sum(found) / len(found)

    assert mean("rebuild", "none") < 0.5 * mean("frozen", "none")
    assert mean("rebuild", "none") < mean("rebuild", "tune")
    assert mean("frozen", "none") < mean("frozen", "tune")
    assert mean("popularity", "none") < mean("frozen", "tune")
    cold = [r["cold_recall@10"] for r in table["rows"] if r["policy"] == "frozen"]
    assert min(cold) > 0


def test_what_was_made_is_taken_up(work: Path, table: dict[str, Any]) -> None:
    """Of a killed replay too: parts are whole or not there. One lost row is made again, equal."""
    config, raw = opened(work)
    made = {p: p.stat().st_mtime_ns for p in (work / "w" / "artifacts").glob("*/manifest.json")}
    lost = next((work / "w" / "artifacts").glob("replay_row-*"))
    (lost / "manifest.json").unlink()  # as a kill before the end leaves it
    again = list(
        library.replay(work / "w", config, raw, updates=("none", "tune", "soft"), cases=200)
    )
    timeless = [{k: v for k, v in r.items() if k != "seconds"} for r in table["rows"]]
    assert [{k: v for k, v in r.items() if k != "seconds"} for r in again] == timeless
    for path, at in made.items():
        assert path.stat().st_mtime_ns == at or path.parent == lost


def test_a_later_event_or_item_changes_no_earlier_part(work: Path, table: dict[str, Any]) -> None:
    """Tables, encoders and models of blocks 0 to 2, made again beside an event and an item of 3."""
    config, raw = opened(work)
    timeline = read_timeline(raw, 4)
    plain = Bench(work / "w", config, raw, timeline)
    more = Bench(work / "leak", config, _with_future(raw, work / "later", timeline), timeline)
    grown = dataclasses.replace(more, timeline=_cut_again(more, timeline.edges))
    assert grown.timeline.known(3) == timeline.known(3) + 1
    hashes: list[str] = []
    for bench in (plain, grown):
        parts = [table_of(bench, p, b) for p in POLICIES for b in range(3)]
        parts += [model_of(bench, "frozen", "tune", b) for b in range(3)]
        parts += [model_of(bench, "retrain", "retrain", 1)]
        hashes.append(json.dumps([p.content_hash for p in parts]))
    assert hashes[0] == hashes[1]
    last = [table_of(bench, "rebuild", 3).content_hash for bench in (plain, grown)]
    assert last[0] != last[1]  # and where it is known it counts


def opened(work: Path) -> tuple[RunConfig, Artifact]:
    config = from_dict(SHOP)
    return config, ingest.run(work / "w", config)


def _with_future(raw: Artifact, folder: Path, timeline: Any) -> Artifact:
    """A raw artefact with one more item, which one more user has in block 3."""
    shutil.copytree(raw.path, folder)
    nothing = dict.fromkeys(ITEMS.names)
    item = {**nothing, "item_id": "later", "title": "A later novelty", "brand": "None"}
    event = {
        "user_id": "A later user",
        "item_id": "later",
        "timestamp": int(timeline.edges[2]) + 1,
        "position": 0,
        "event_type": "view",
    }
    for name, schema, row in (("items", ITEMS, item), ("interactions", INTERACTIONS, event)):
        pq.write_table(pa.Table.from_pylist([row], schema), folder / name / "part-00009.parquet")
    (folder / "manifest.json").unlink()
    write_manifest(folder, {"kind": "raw", "key": "later"})
    return open_artifact(folder)


def _cut_again(bench: Bench, edges: Any) -> Any:
    """The timeline of the grown data with the edges that there were."""
    events, items = (
        ds.dataset(bench.raw.file(name), schema=schema, format="parquet").to_table()
        for name, schema in (("interactions", INTERACTIONS), ("items", ITEMS))
    )
    return cut(events, items, edges)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--blocks", "1"], "use at least 2"),
        (["--policies", "cold"], "no policy 'cold'"),
        (["model.name=sasrec"], "a replay is of codes"),
    ],
)
def test_wrong_use_is_told(
    work: Path,
    table: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert main([*command(work), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_codes_that_were_given_are_refused(work: Path, table: dict[str, Any]) -> None:
    config, raw = opened(work)
    given = dataclasses.replace(config.tokenizer, name="given", codes="codes.npy")
    with pytest.raises(UsageError, match="takes a tokenizer that is fitted"):
        next(
            row
            for row in library.replay(
                work / "given", dataclasses.replace(config, tokenizer=given), raw, cases=20
            )
            if row["policy"] == "base"
        )
