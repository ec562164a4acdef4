"""Steps train and evaluate on a tiny learnable shop: files, reuse, going on after a stop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tesserec.errors import DataError
from tesserec.models.rpg import RPG
from tesserec.recommender import Recommender
from tesserec.steps import evaluate, train
from tesserec.steps.catalogue import read_catalogue
from tests.fakes.walks import ITEMS, USERS, config, shop


def test_train_and_evaluate(tmp_path: Path) -> None:
    codes, features = shop(tmp_path)
    model = train.run(tmp_path, config(), codes, features)
    assert sorted(model.manifest["files"]) == ["history.jsonl", "model.json", "model.safetensors"]
    history = [json.loads(s) for s in model.file("history.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in history] == list(range(1, len(history) + 1))
    assert set(history[1]) >= {"loss", "val_ndcg@10", "val_recall@50"}
    assert not list((tmp_path / "checkpoints").glob("*"))
    logs = tmp_path / "reports" / "logs" / f"model-{model.key}"
    assert (logs / "speed.jsonl").is_file()

    metrics = evaluate.run(tmp_path, config(), model, codes, features)
    table = metrics.read_json("metrics.json")
    assert table["users"] == USERS
    assert table["kept"]["ndcg@10"] > 2 * table["baselines"]["popularity"]["kept"]["ndcg@10"]
    users = pq.read_table(metrics.file("per_user.parquet"))
    assert users.num_rows == USERS
    ranks = users["rpg_rank_kept"].to_numpy()
    assert np.mean((ranks > 0) & (ranks <= 10)) == pytest.approx(table["kept"]["recall@10"])
    assert ranks.max() <= 50
    for name in ("rpg", "popularity", "item_knn"):
        assert users.schema.field(f"{name}_rank_dropped").type == pa.int32()
    examples = metrics.read_json("examples.json")
    assert len(examples) == 10
    for example in examples:
        shown = {r["item_id"] for r in example["recommendations"]}
        assert len(shown) == 10
        assert not shown & {h["item_id"] for h in example["history"]}
    titles = {r["item_id"]: r["title"] for e in examples for r in e["recommendations"]}
    assert all(t == (f"Title {i[1:]}" if i != "i0" else "i0") for i, t in titles.items())


def test_a_model_with_vectors_of_items_outlives_the_growth_of_its_catalogue(tmp_path: Path) -> None:
    codes, features = shop(tmp_path)
    settings = config(epochs=4)
    settings = replace(settings, model=replace(settings.model, id_vectors=True))
    model = train.run(tmp_path, settings, codes, features)
    assert model.key != train.run(tmp_path, config(epochs=4), codes, features).key
    items = read_catalogue(settings, codes, features)
    trained = train.read_model("rpg", model, items)
    assert trained.shape.id_vectors == ITEMS and bool(trained.ids.any())
    assert items.codes is not None
    grown = np.concatenate([items.codes, items.codes[:2]])
    more = Recommender.of_parts(RPG.load(model.path, grown), grown, [*items.ids, "new 0", "new 1"])
    whole = Recommender.of_parts(trained, items.codes, items.ids)
    for asked in (["i4", "i7"], ["i4", "i1", "i2"]):
        (before,), (after,) = whole.recommend([asked], 40)[0], more.recommend([asked], 42)[0]
        assert [i for i in after if not i.startswith("new")] == before
        assert abs(after.index("new 1") - after.index("i1")) <= 2  # of equal codes
    [answer], _ = more.recommend([["new 0"]], 3)
    assert len(answer) == 3


def test_equal_inputs_give_equal_contents_and_are_made_once(tmp_path: Path) -> None:
    made = []
    for name in ("a", "b"):
        codes, features = shop(tmp_path / name)
        model = train.run(tmp_path / name, config(epochs=2), codes, features)
        made.append(model.content_hash)
        stamp = model.file("manifest.json").stat().st_mtime_ns
        again = train.run(tmp_path / name, config(epochs=2), codes, features)
        assert again.file("manifest.json").stat().st_mtime_ns == stamp
        metrics = evaluate.run(tmp_path / name, config(), model, codes, features)
        made.append(metrics.content_hash)
    assert made[:2] == made[2:]


def test_a_stopped_training_goes_on(tmp_path: Path) -> None:
    codes, features = shop(tmp_path / "whole")
    whole = train.run(tmp_path / "whole", config(epochs=4), codes, features)
    codes, features = shop(tmp_path / "stopped")
    resumed_at: list[int] = []

    class Stop(BaseException):
        """Not an error that anybody handles."""

    def stop(now: object) -> None:
        if getattr(now, "step", 0) == 13:
            raise Stop

    def note(now: object) -> None:
        resumed_at.append(getattr(now, "step", 0))

    settings = config(epochs=4, checkpoint_s=0.0)  # the interval is not part of the key
    with pytest.raises(Stop):
        train.run(tmp_path / "stopped", settings, codes, features, on_progress=stop)
    assert list((tmp_path / "stopped" / "checkpoints").glob("*/state.json"))
    model = train.run(tmp_path / "stopped", settings, codes, features, on_progress=note)
    assert resumed_at[0] == 14
    assert model.content_hash == whole.content_hash


def test_users_too_short_for_a_test_are_said(tmp_path: Path) -> None:
    codes, features = shop(tmp_path, longest=2)
    model = train.run(tmp_path, config(epochs=1), codes, features)
    with pytest.raises(DataError, match="no user has a test target"):
        evaluate.run(tmp_path, config(), model, codes, features)
