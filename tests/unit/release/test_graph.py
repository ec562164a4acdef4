"""A run whose decoder walks on a graph builds it once, and the release carries it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tesserec.artifacts import Artifact, build
from tesserec.config import from_dict
from tesserec.decoders import graph
from tesserec.decoders.graph import GraphDecoder
from tesserec.decoders.graph_files import GRAPH
from tesserec.errors import ArtifactError
from tesserec.models.rpg import RPG
from tesserec.recommender import Recommender
from tesserec.release import build_release, release_folder, verify
from tesserec.steps import build_release as step
from tesserec.steps import evaluate
from tests.fakes.release import ITEMS, artifacts

OPTIONS = {"name": "graph", "edges": 5, "beam": 3, "steps": 2}
PARENTS = ("features", "store", "vectors", "codes", "model")
HISTORIES = [np.array([1, 2, 3]), np.array([40]), np.arange(20)]


def model_and_codes(made: dict[str, Artifact]) -> tuple[RPG, np.ndarray]:
    codes = load_file(made["codes"].file("codes.safetensors"))["codes"]
    return RPG.load(made["model"].path, codes).eval(), codes


def release_with(workdir: Path, made: dict[str, Artifact], graph: Artifact | None) -> Path:
    release = build_release(
        workdir,
        features=made["features"],
        store=made["store"],
        coded=(made["vectors"], made["codes"]),
        model=made["model"],
        metrics=made["metrics"],
        model_name="rpg",
        decoder=OPTIONS,
        graph=graph,
    )
    return release_folder(workdir, release)


def graph_artifact(workdir: Path, decoder: GraphDecoder) -> Artifact:
    def make(folder: Path) -> None:
        decoder.save(folder / GRAPH)

    return build(workdir, "graph", params={}, parents=(), version=1, make=make)[0]


def never(*args: Any) -> None:
    raise AssertionError("a graph was built")


def test_evaluation_and_release_share_one_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = from_dict(
        {"decoder": OPTIONS, "evaluation": {"bootstrap": 100}, "training": {"threads": 1}}
    )
    made = artifacts(tmp_path)
    features, store, vectors, codes, model = (made[name] for name in PARENTS)
    raw, _ = build(tmp_path, "raw", params={}, parents=(), version=1, make=lambda folder: None)
    metrics = evaluate.run(tmp_path, config, model, codes, features)
    monkeypatch.setattr(graph, "build_edges", never)
    found = step.run(tmp_path, config, raw, features, store, vectors, codes, model, metrics)
    folder = release_folder(tmp_path, found.read_json("release.json")["release_id"])
    assert verify(folder) == []
    [shared] = (tmp_path / "artifacts").glob("graph-*")
    for artifact in (metrics, found):
        assert artifact.manifest["parents"][-1]["id"] == shared.name
    assert (folder / "decoder" / GRAPH).read_bytes() == (shared / GRAPH).read_bytes()
    users = metrics.read_json("examples.json")
    answers, _ = Recommender.load(folder).recommend(
        [[h["item_id"] for h in users[0]["history"]]], 9
    )
    assert len(answers[0]) == 9


def test_a_loaded_release_answers_as_before_it_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = artifacts(tmp_path)
    model, codes = model_and_codes(made)
    decoder = GraphDecoder.of(model, codes, edges=5, beam=3, steps=2)
    decoder.starts = np.array([7, 11])  # few: what is found depends on graph, beam and steps
    folder = release_with(tmp_path, made, graph_artifact(tmp_path, decoder))
    monkeypatch.setattr(graph, "build_edges", never)
    answers = Recommender.load(folder).recommend_rows(HISTORIES, 7)
    model.freeze()  # as a model that answers is: it rounds otherwise
    for ours, theirs in zip(answers, decoder.rank(model.state(HISTORIES), 7), strict=True):
        assert (ours == theirs).all()
    assert decoder.fallbacks == 0 and decoder.visited < decoder.walks * ITEMS


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_verify_finds_a_damaged_graph(tmp_path: Path, damage: str) -> None:
    made = artifacts(tmp_path)
    decoder = GraphDecoder.of(*model_and_codes(made), edges=5)
    folder = release_with(tmp_path, made, graph_artifact(tmp_path, decoder))
    assert verify(folder) == []
    path = folder / "decoder" / GRAPH
    content = path.read_bytes()
    path.unlink()
    if damage == "changed":
        path.write_bytes(content[:-1] + b"!")
    assert any(GRAPH in problem for problem in verify(folder))


def test_a_release_without_its_graph_is_refused(tmp_path: Path) -> None:
    folder = release_with(tmp_path, artifacts(tmp_path), None)
    assert verify(folder) == [f"decoder graph has no {GRAPH}"]
    with pytest.raises(ArtifactError, match="build it anew"):
        Recommender.load(folder)


def test_a_graph_of_other_codes_is_refused(tmp_path: Path) -> None:
    other = GraphDecoder.of(*model_and_codes(artifacts(tmp_path, seed=2)), edges=5)
    folder = release_with(tmp_path, artifacts(tmp_path), graph_artifact(tmp_path, other))
    assert "another code table" in verify(folder)[0]
    with pytest.raises(ArtifactError, match="another code table"):
        Recommender.load(folder)
