"""The compiled pipelines, and the rules that keep components compilable."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPONENTS = sorted(
    p for p in (ROOT / "components").glob("*.py") if p.stem not in ("base", "images", "__init__")
)
PIPELINES = ("training", "retokenization")
ON_GPU = {"training": {"train"}, "retokenization": {"maintain", "warm-start"}}
EXIT = ("report", "freshness")  # handlers of a run's end
# They leave the workdir, move the pointer or write the history, or their refusal is an answer.
ONCE = {
    "feature-store", "rehearse", "promote", "hand-over", "decide", "judge", "judge-model",
    "gate-raw", "gate-features", "gate-codes", "gate-metrics",
}  # fmt: skip
RETRIED = {
    "ingest", "features", "encode", "tokenize", "train", "evaluate", "build-release", "survey",
    "extend", "maintain", "align", "warm-start", "evaluate-block", "rebuild",
}  # fmt: skip


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict]]:
    out = tmp_path_factory.mktemp("compiled")
    subprocess.run(
        [sys.executable, "-m", "pipelines.compile", "--out", str(out)], cwd=ROOT, check=True
    )
    assert sorted(p.stem for p in out.iterdir()) == sorted(PIPELINES)
    return {
        name: list(yaml.safe_load_all((out / f"{name}.yaml").read_text())) for name in PIPELINES
    }


@pytest.fixture(params=PIPELINES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def documents(compiled: dict[str, list[dict]], name: str) -> list[dict]:
    return compiled[name]


def executors(documents: list[dict]) -> dict[str, Any]:
    return documents[0]["deploymentSpec"]["executors"]


def step_of(name: str) -> str:
    """`exec-judge-2` and `comp-judge-2` are the component `judge`."""
    return re.sub(r"^(exec|comp)-|-\d+$", "", name)


def tasks_of(documents: list[dict]) -> list[tuple[str, str, dict[str, Any]]]:
    """(group, component, task) of every step, at whatever depth."""
    parts = documents[0]["components"]
    dags = [(group, c["dag"]) for group, c in parts.items() if "dag" in c]
    dags.append(("root", documents[0]["root"]["dag"]))
    return [
        (group, step_of(task["componentRef"]["name"]), task)
        for group, dag in dags
        for task in dag["tasks"].values()
        if "executorLabel" in parts[task["componentRef"]["name"]]
    ]


def test_kfp_loads_the_compiled_pipeline(name: str, documents: list[dict], tmp_path: Path) -> None:
    from kfp import components

    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    assert components.load_component_from_file(str(path)).name == f"tesserec-{name}"


def test_every_component_is_in_a_pipeline(compiled: dict[str, list[dict]]) -> None:
    used = {step_of(e) for documents in compiled.values() for e in executors(documents)}
    assert used == {path.stem.replace("_", "-") for path in COMPONENTS}


def test_every_step_has_an_image_and_a_command(documents: list[dict]) -> None:
    for name, executor in executors(documents).items():
        container = executor["container"]
        assert container["image"].startswith("tesserec/"), name
        assert container["command"] and container["args"], name
        assert "pip install" not in " ".join(container["command"]), name


def test_what_trains_asks_for_a_gpu_and_nothing_else_does(name: str, documents: list[dict]) -> None:
    found = executors(documents)
    asking = {n for n, e in found.items() if "resources" in e["container"]}
    assert {step_of(n) for n in asking} == ON_GPU[name]
    for one in asking:
        container = found[one]["container"]
        accelerator = container["resources"]["accelerator"]
        assert accelerator["resourceType"] == "nvidia.com/gpu", one
        assert accelerator["resourceCount"] == "1", one
        assert container["image"].startswith("tesserec/train"), one
        platform = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"][one]
        assert platform["nodeSelector"]["labels"] and platform["tolerations"], one
        assert platform["emptyDirMounts"][0]["mountPath"] == "/dev/shm", one


def test_no_step_is_cached_and_only_harmless_ones_are_retried(documents: list[dict]) -> None:
    """Each time that a step occurs; the second time its task has another name."""
    for _, step, task in tasks_of(documents):
        assert not task.get("cachingOptions", {}).get("enableCache"), step
        if step in EXIT:
            continue
        assert step in RETRIED | ONCE, step
        assert ("retryPolicy" in task) == (step in RETRIED), task["taskInfo"]["name"]


def test_every_step_may_take_its_time_and_not_for_ever(documents: list[dict]) -> None:
    platform = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for one in executors(documents):
        if step_of(one) in EXIT:
            continue
        long = step_of(one) in ("train", "maintain", "warm-start")
        seconds = int(platform[one]["activeDeadlineSeconds"])
        assert seconds == (24 if long else 6) * 3600, one


def test_one_cadence_runs_and_it_is_the_one_that_was_decided(
    compiled: dict[str, list[dict]],
) -> None:
    documents = compiled["retokenization"]
    parts = documents[0]["components"]
    (branches,) = (c["dag"]["tasks"] for n, c in parts.items() if n.startswith("comp-condition-br"))
    due = "inputs.parameter_values['pipelinechannel--decide-Output']"
    asked = {}
    for task in branches.values():
        produced = task["inputs"]["parameters"]["pipelinechannel--decide-Output"]
        assert produced == {"componentInputParameter": "pipelinechannel--decide-Output"}
        asked[task["triggerPolicy"]["condition"]] = task["componentRef"]["name"]
    encode, maintain, rebuild = (f"{due} == '{c}'" for c in ("encode", "maintain", "rebuild"))
    assert list(asked) == [
        encode,
        f"!({encode}) && {maintain}",
        f"!({encode}) && !({maintain}) && {rebuild}",
    ]
    steps = {group: set() for group in asked.values()}
    for group, step, _ in tasks_of(documents):
        if group in steps:
            steps[group].add(step)
    found = list(steps.values())
    assert found[0] == {"extend", "judge", "hand-over"}
    assert {"maintain", "judge-model"} <= found[1] and "warm-start" not in found[1]
    assert {"align", "warm-start", "rebuild"} <= found[2] and "maintain" not in found[2]
    outside = {step for group, step, _ in tasks_of(documents) if group not in steps}
    assert outside == {"survey", "decide", "freshness"}


def test_nothing_is_handed_over_unjudged(compiled: dict[str, list[dict]]) -> None:
    """Of the same change, in each cadence."""
    documents = compiled["retokenization"]
    handed = [t for _, step, t in tasks_of(documents) if step == "hand-over"]
    assert len(handed) == 4
    for task in handed:
        made = task["inputs"]["artifacts"]["change"]["taskOutputArtifact"]["producerTask"]
        judges = [t for t in task["dependentTasks"] if t.startswith("judge")]
        assert len(judges) == 1
        (judged,) = (t for _, _, t in tasks_of(documents) if t["taskInfo"]["name"] == judges[0])
        source = judged["inputs"]["artifacts"]["change"]["taskOutputArtifact"]["producerTask"]
        assert source == made


@pytest.mark.parametrize("path", COMPONENTS, ids=lambda p: p.stem)
def test_a_component_is_thin(path: Path) -> None:
    text = path.read_text()
    assert "from __future__" not in text  # it breaks kfp's reading of annotations
    assert len(text.splitlines()) <= 45


@pytest.mark.parametrize("folder", ["components", "pipelines"])
def test_no_postponed_annotations(folder: str) -> None:
    for path in (ROOT / folder).glob("*.py"):
        assert "from __future__ import annotations" not in path.read_text(), path
