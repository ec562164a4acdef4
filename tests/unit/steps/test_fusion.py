"""Steps with SASRec and fusion: each part an artefact, killed trainings go on, codes or none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tesserec import progress
from tesserec.artifacts import Artifact
from tesserec.errors import ArtifactError
from tesserec.steps import evaluate, gate_codes, tokenize, train
from tesserec.steps.catalogue import is_skipped, skipped
from tesserec.training.loop import Progress
from tests.fakes.walks import ITEMS, config, make, shop


class Stop(BaseException):
    """Not an error that anybody handles."""


def models(workdir: Path) -> set[str]:
    return {p.name for p in (workdir / "artifacts").glob("model-*")}


def test_a_fusion_and_its_parts(tmp_path: Path) -> None:
    codes, features = shop(tmp_path)
    settings = config(model="fusion", epochs=8)
    model = train.run(tmp_path, settings, codes, features)
    assert sorted(model.manifest["files"]) == [
        "fusion/fusion.json", "history.jsonl", "rpg/model.json", "rpg/model.safetensors",
        "sasrec/model.json", "sasrec/model.safetensors",
    ]  # fmt: skip
    lines = [json.loads(s) for s in model.file("history.jsonl").read_text().splitlines()]
    assert [line["part"] for line in lines] == ["rpg"] * 8 + ["sasrec"] * 8 + ["fusion"]
    blend = model.read_json("fusion/fusion.json")["blend"]
    assert lines[-1]["fit"]["blend"] == blend and len(blend["weights"]) == len(blend["bounds"]) + 1

    metrics = evaluate.run(tmp_path, settings, model, codes, features)
    table = metrics.read_json("metrics.json")
    names = ["popularity", "item_knn", "rpg", "sasrec"]
    assert table["model"] == "fusion" and list(table["baselines"]) == list(table["paired"]) == names
    users = pq.read_table(metrics.file("per_user.parquet"))
    assert {f"{n}_rank_kept" for n in ("fusion", *names)} < set(users.column_names)

    # each part alone is the artefact that the fusion was made of, and scores the same
    for name in ("rpg", "sasrec"):
        before = models(tmp_path)
        alone = train.run(tmp_path, config(model=name, epochs=8), codes, features)
        assert models(tmp_path) == before
        own = evaluate.run(tmp_path, config(model=name, epochs=8), alone, codes, features)
        assert own.read_json("metrics.json")["kept"] == table["baselines"][name]["kept"]


@pytest.mark.parametrize("part", [0, 1])
def test_a_fusion_killed_in_either_part_goes_on(tmp_path: Path, part: int) -> None:
    settings = config(model="fusion", epochs=3, checkpoint_s=0.0)
    codes, features = shop(tmp_path / "whole")
    whole = train.run(tmp_path / "whole", settings, codes, features)
    codes, features = shop(tmp_path / "stopped")
    seen: list[int] = []

    def stop(now: Any) -> None:
        seen.append(now.step)
        if now.step == 13 and seen.count(13) > part:
            raise Stop

    with pytest.raises(Stop):
        train.run(tmp_path / "stopped", settings, codes, features, on_progress=stop)
    assert len(models(tmp_path / "stopped")) == part
    resumed: list[int] = []
    model = train.run(
        tmp_path / "stopped",
        settings,
        codes,
        features,
        on_progress=lambda p: resumed.append(p.step),
    )
    assert resumed[0] == 14
    assert model.content_hash == whole.content_hash
    assert not list((tmp_path / "stopped" / "checkpoints").glob("*"))


def test_sasrec_needs_no_codes(tmp_path: Path) -> None:
    _, features = shop(tmp_path)
    settings = config(model="sasrec")
    vectors = skipped(tmp_path, "vectors", settings, [features])
    codes = tokenize.run(tmp_path, settings, vectors, features)
    assert is_skipped(codes)
    assert codes.read_json("skipped.json") == {"reason": "model sasrec has no codes"}
    assert gate_codes.run(tmp_path, settings, vectors, codes).read_json("verdict.json")["passed"]
    model = train.run(tmp_path, settings, codes, features)
    metrics = evaluate.run(tmp_path, settings, model, codes, features)
    table = metrics.read_json("metrics.json")
    assert table["model"] == "sasrec" and list(table["baselines"]) == ["popularity", "item_knn"]
    assert table["kept"]["ndcg@10"] > 2 * table["baselines"]["popularity"]["kept"]["ndcg@10"]


def test_codes_of_other_items_are_refused(tmp_path: Path) -> None:
    _, features = shop(tmp_path)

    def other(folder: Path) -> None:
        import pyarrow as pa
        from safetensors.numpy import save_file

        save_file({"codes": np.zeros((ITEMS, 4), np.uint8)}, folder / "codes.safetensors")
        ids = pa.table({"item_id": [f"x{r}" for r in range(ITEMS)]})
        pq.write_table(ids, folder / "item_ids.parquet")

    codes: Artifact = make(tmp_path, "other_codes", other)
    with pytest.raises(ArtifactError, match="stem from different runs"):
        train.run(tmp_path, config(), codes, features)


def test_progress_names_the_part_of_a_fusion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(progress.ENV, str(tmp_path / "progress.json"))
    end = Progress(epoch=2, epochs=2, step=4, steps=4, loss=0.5, rows_per_s=9.0, seconds_left=0.0)
    for model, part in (("fusion", "sasrec"), ("sasrec", "")):
        train.watcher(config(model=model), "sasrec")(end)
        assert json.loads((tmp_path / "progress.json").read_text())["part"] == part
