"""May a release be promoted: table and ledger, churn and health, the model beside the former."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tesserec.artifacts import Artifact
from tesserec.config import RunConfig, change_config
from tesserec.decoders.aliases import AliasScorer
from tesserec.errors import GateFailed
from tesserec.evaluation import protocol
from tesserec.evaluation.protocol import Ranks
from tesserec.recommender import Recommender
from tesserec.release import delta, promote, promoted
from tesserec.release.build import ALIASES
from tesserec.retokenization import life, maintenance
from tesserec.retokenization.budget import Budget
from tesserec.retokenization.history import read_history
from tesserec.retokenization.ledger import read_ledger, replay
from tesserec.retokenization.stock import Stock, open_stock
from tesserec.steps import extend, judge, maintain, survey
from tesserec.tables import grow_codes
from tesserec.validation import gate
from tests.fakes import stock as fake_stock
from tests.fakes.events import START, events, walks
from tests.fakes.stock import row, source_rows, stock_release, write_source

LOOSE = ["gates.max_loss=0.99", "gates.max_slice_loss=0.99"]
TUNING = ["training.threads=1", "training.batch_users=8", "retokenization.tuning.epochs=2"]


@pytest.fixture(autouse=True)
def no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "_actions", list)


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten of its items have codes that don't fit them."""
    plain = fake_stock._codes

    def misfitting(folder: Path, vectors: np.ndarray, encoder: Path) -> None:
        plain(folder, vectors, encoder)
        codes = load_file(folder / "codes.safetensors")["codes"]
        codes[30:40] = codes[0:10]
        save_file({"codes": codes}, folder / "codes.safetensors")

    monkeypatch.setattr(fake_stock, "_codes", misfitting)
    stock_release(tmp_path, tmp_path / "data")
    return tmp_path


def configured(workdir: Path, *overrides: str) -> RunConfig:
    return change_config(open_stock(workdir).config, [*LOOSE, *TUNING, *overrides])


def encoded(workdir: Path, rows: list[dict[str, Any]]) -> Artifact:
    write_source(workdir / "data", rows)
    config = configured(workdir)
    return extend.run(workdir, config, survey.run(workdir, config))


def maintained(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Artifact, Artifact]:
    """The change, and the events that tuned it."""
    monkeypatch.setattr(maintain, "model_until", lambda *_: START)
    feats = events(workdir, walks())
    return maintain.run(workdir, configured(workdir), feats), feats


# ---- what encode made ----


def test_new_items_pass(workdir: Path) -> None:
    made = encoded(workdir, [*source_rows(), row(100)])
    found = judge.run(workdir, configured(workdir), made)
    assert found.read_json("verdict.json")["rows"] == {"ledger": 1, "table": 1}
    assert read_history(workdir) == []  # hand_over tells of what passed


def test_an_item_out_of_stock_passes(workdir: Path) -> None:
    """No entry of the ledger speaks of it."""
    rows = source_rows()
    rows[3] |= {"available": False}
    made = encoded(workdir, rows)
    assert made.read_json("change.json")["release_id"]
    found = judge.run(workdir, configured(workdir), made)
    assert found.read_json("verdict.json")["rows"] == {"table": len(rows)}


def test_a_compacted_release_passes(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ledger begins anew."""
    monkeypatch.setattr(delta, "COMPACTED", 1)
    made = encoded(workdir, [*source_rows(), row(100)])
    found = judge.run(workdir, configured(workdir), made)
    assert found.read_json("verdict.json")["rows"] == {"table": 61}


def test_an_item_without_a_code_is_refused(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = encoded(workdir, [*source_rows(), row(100)])
    short = open_stock(workdir).codes
    monkeypatch.setattr(Stock, "codes", short)  # one row less than items
    with pytest.raises(GateFailed, match=r"table\.has_code"):
        judge.run(workdir, configured(workdir), made)


# ---- what maintain made ----


def test_a_maintained_release(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_stock(workdir)
    made, feats = maintained(workdir, monkeypatch)
    told = made.read_json("change.json")
    assert told["tuning"]["targets"] == 160 and told["tuning"]["epochs"] == 2
    assert told["impressions_from"] == "interactions"
    assert told["notes"] == ["impressions were counted from interactions"]
    found = judge.run(workdir, configured(workdir), made, feats)
    comparison = found.read_json("comparison.json")
    assert comparison["users"] == 40 and not comparison["events_known_to_promoted"]
    assert set(found.read_json("verdict.json")["rows"]) >= {
        "table", "refresh", "against_promoted", "slices"
    }  # fmt: skip
    promote(workdir, told["release_id"])
    after = open_stock(workdir)
    assert after.manifest["model_until"] == told["tuning"]["until"] > START
    base = grow_codes(after.paths("codes")[:1])
    np.testing.assert_array_equal(replay(base, read_ledger(after.paths("ledger"))), after.codes)
    moved = np.flatnonzero((before.codes != after.codes).any(axis=1))
    assert 0 < len(moved) == told["counts"]["moved"] and set(moved) <= set(range(30, 40))
    refresh = made.read_json("refresh.json")
    assert refresh["churn_items"] <= 0.05 and refresh["churn_impressions"] <= 0.02


def test_more_churn_than_its_budget_is_refused_and_remembered(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = Budget(items=1, impressions=1)
    monkeypatch.setattr(maintenance, "Budget", lambda **_: everything)
    made, feats = maintained(workdir, monkeypatch)
    told = made.read_json("change.json")
    assert told["counts"]["moved"] > 0
    config = configured(workdir, "retokenization.budget.items=0")
    with pytest.raises(GateFailed, match=r"refresh\.churn_items"):
        judge.run(workdir, config, made, feats)
    (line,) = read_history(workdir)
    assert (line["cadence"], line["release_id"], line["parent"], line["ok"]) == (
        "maintain", told["release_id"], told["parent"], False
    )  # fmt: skip
    assert "refresh.churn_items" in line["fired"][0]
    with pytest.raises(GateFailed):  # the verdict is kept
        judge.run(workdir, config, made, feats)


def test_a_model_that_lost_is_refused(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, feats = maintained(workdir, monkeypatch)
    release = made.read_json("change.json")["release_id"]
    monkeypatch.setattr(protocol, "rank", lambda one, asked: worse(one, len(asked), release))
    with pytest.raises(GateFailed, match=r"against_promoted\.low"):
        judge.run(workdir, configured(workdir, "gates.max_loss=0.01"), made, feats)


def worse(one: Recommender, users: int, release: str) -> Ranks:
    ranks = np.ones(users, np.int64)
    if one.release_id == release:
        ranks[::2] = 100
    return Ranks(ranks, ranks)


def test_both_models_are_asked_the_same_though_their_rows_differ(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One doesn't know three items: a user with nothing else in his history is left out, and a
    target that one of them doesn't know is a miss of that one."""
    ids = open_stock(workdir).item_ids
    told = walks()
    told["U000"] = [(ids[0], START - 5), (ids[0], START + 1), (ids[5], START + 900)]
    told["U001"] = [(ids[7], START - 5), (ids[1], START + 900)]
    feats = events(workdir, told)
    known = {"old": ids[3:], "new": ids[::-1]}
    asked: dict[str, Any] = {}

    def load(folder: Path, **_: Any) -> Any:
        rows = {item: at for at, item in enumerate(known[folder.name])}
        return SimpleNamespace(row_of=rows, item_ids=known[folder.name], name=folder.name)

    def rank(one: Any, cases: Any) -> Ranks:
        asked[one.name] = cases
        ranks = np.where(cases.targets >= 0, 1, 0)
        return Ranks(ranks, ranks)

    monkeypatch.setattr(maintain, "model_until", lambda *_: START)
    monkeypatch.setattr(judge, "_stock", lambda *_: None)
    monkeypatch.setattr(Recommender, "load", load)
    monkeypatch.setattr(protocol, "rank", rank)
    told_of = {"parent": "old", "release_id": "new"}
    _, figures = judge._models(workdir, configured(workdir), told_of, feats)
    assert asked["old"].users == asked["new"].users
    assert figures["users"] == len(asked["old"].users) > 30
    assert "U000" not in asked["old"].users and "U001" in asked["old"].users
    named: dict[str, list[Any]] = {}
    for name, cases in asked.items():
        named[name] = [known[name][t] if t >= 0 else None for t in cases.targets.tolist()]
    unknown = set(ids[:3])
    assert named["old"] == [None if item in unknown else item for item in named["new"]]
    at = asked["new"].users.index("U001")
    assert named["new"][at] == ids[1] and named["old"][at] is None
    assert figures["promoted"]["kept"]["recall@10"] < figures["candidate"]["kept"]["recall@10"]


# ---- codes from before a rebuild ----


def test_aliases_outlive_encode_and_end_with_maintain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = fake_stock._codes

    def with_aliases(folder: Path, vectors: np.ndarray, encoder: Path) -> None:
        plain(folder, vectors, encoder)
        rows = np.arange(10, 20)
        codes = np.random.default_rng(5).integers(0, 16, (10, 4)).astype(np.uint8)
        save_file({"rows": rows, "codes": codes}, folder / ALIASES)

    monkeypatch.setattr(fake_stock, "_codes", with_aliases)
    stock_release(tmp_path, tmp_path / "data")
    assert scorer(tmp_path) is AliasScorer
    empty = row(100) | {"title": None, "categories": None, "price": None}
    for rows in ([*source_rows(), empty], [*source_rows(), row(100)]):
        made = encoded(tmp_path, rows).read_json("change.json")
        promote(tmp_path, made["release_id"])
        assert scorer(tmp_path) is AliasScorer
    assert made["counts"]["activated"] == 1  # its code changed
    assert not life.in_status(open_stock(tmp_path).items, life.QUARANTINED).any()
    change, _ = maintained(tmp_path, monkeypatch)
    promote(tmp_path, change.read_json("change.json")["release_id"])
    assert "aliases" not in open_stock(tmp_path).manifest["parts"]
    assert scorer(tmp_path) is not AliasScorer


def scorer(workdir: Path) -> type:
    """What the promoted release scores items by."""
    found = Recommender.load(workdir / "releases" / str(promoted(workdir)))
    return type(getattr(found.decoder, "_scorer", None))
