"""SASRec and a fusion through the whole pipeline, served by the real Triton as they answer offline.

The runs share the workdir of the first one: each candidate has to pass against what is promoted.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tesserec.artifacts import open_artifact
from tesserec.data.splits import load_sequences
from tesserec.decoders.constraints import Constraints
from tesserec.recommender import Recommender as Offline
from tesserec.release import verify
from tesserec.serving.client import Recommender
from tesserec.serving.rehearsal import Ranking, difference
from tests.command import ROOT, environment, tesserec

pytestmark = [pytest.mark.slow, pytest.mark.triton, pytest.mark.timeout(1800)]
MEMBERS = {"sasrec": ["sasrec"], "fusion": ["fusion", "rpg", "sasrec"]}


@pytest.mark.parametrize("name", ["sasrec", "fusion"])
def test_a_model_from_events_to_answers(
    finished: tuple[Path, dict], tiny_config: Path, tmp_path: Path, name: str
) -> None:
    workdir = tmp_path / "work"
    shutil.copytree(finished[0] / "artifacts", workdir / "artifacts")  # what it shares with RPG
    done = tesserec(
        "run", str(tiny_config), f"model.name={name}", "--workdir", str(workdir), "--json"
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["promoted"] and result["metrics"]["model"] == name
    assert Path(result["report"]).is_file()
    parts = set(result["metrics"]["baselines"]) - {"popularity", "item_knn"}
    assert parts == set(MEMBERS[name]) - {name}

    release = workdir / "releases" / result["release_id"]
    assert verify(release) == []
    assert sorted(p.name for p in (release / "models").iterdir()) == MEMBERS[name]
    has_codes = name == "fusion"
    for folder in ("codes", "tokenizer", "encoder"):
        assert (release / folder).exists() == has_codes
    if name == "fusion":  # RPG was trained before, by the same recipe
        old = {p.name for p in (finished[0] / "artifacts").glob("model-*")}
        assert old < {p.name for p in (workdir / "artifacts").glob("model-*")}

    again = tesserec("evaluate", "--workdir", str(workdir), "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["kept"] == result["metrics"]["kept"]
    _served_as_offline(workdir, result["release_id"], sid=has_codes)


def _served_as_offline(workdir: Path, release_id: str, *, sid: bool) -> None:
    (features,) = (workdir / "artifacts").glob("features-*")
    sequences = load_sequences(open_artifact(features))
    loaded = Offline.load(workdir / "releases" / release_id)
    histories = sequences.item_ids[:100]
    deny = [np.array(sorted({loaded.row_of[i] for i in h}), np.int64) for h in histories]
    ids, scores = loaded.recommend([h[-50:] for h in histories], 10, Constraints(deny=deny))
    command = [sys.executable, "-m", "tesserec.cli", "serve", "--workdir", str(workdir), "--json"]
    with subprocess.Popen(
        command, env=environment(), cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        try:
            info = json.loads(process.stdout.readline())
            with Recommender(info["grpc"], timeout_s=30) as client:
                for user, i, s in zip(sequences.user_ids, ids, scores, strict=False):
                    answer = client.recommend(user_id=user, k=10)
                    assert answer.source == "model"
                    ours = Ranking(answer.item_ids, answer.scores)
                    assert difference(ours, Ranking(i, s.tolist())) is None
            ask = ("recommend", "--user", sequences.user_ids[0], "--workdir", str(workdir))
            shown = json.loads(tesserec(*ask, "--json").stdout)["items"]
            assert len(shown) == 10 and all((item["sid"] is not None) == sid for item in shown)
        finally:
            process.terminate()
            process.wait(timeout=60)
