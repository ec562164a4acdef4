"""The compiled pipeline, and the rules that keep components compilable."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPONENTS = sorted(
    p for p in (ROOT / "components").glob("*.py") if p.stem not in ("base", "images", "__init__")
)


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    out = tmp_path_factory.mktemp("compiled")
    subprocess.run(
        [sys.executable, "-m", "pipelines.compile", "--out", str(out)], cwd=ROOT, check=True
    )
    return list(yaml.safe_load_all((out / "training.yaml").read_text()))


def test_kfp_loads_the_compiled_pipeline(documents: list[dict], tmp_path: Path) -> None:
    from kfp import components

    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    assert components.load_component_from_file(str(path)).name == "tesserec-training"


def test_every_step_has_an_image_and_a_command(documents: list[dict]) -> None:
    executors = documents[0]["deploymentSpec"]["executors"]
    assert len(executors) == len(COMPONENTS)
    for name, executor in executors.items():
        container = executor["container"]
        assert container["image"].startswith("tesserec/"), name
        assert container["command"] and container["args"], name
        assert "pip install" not in " ".join(container["command"]), name


def test_training_asks_for_a_gpu_and_nothing_else_does(documents: list[dict]) -> None:
    executors = documents[0]["deploymentSpec"]["executors"]
    asking = [n for n, e in executors.items() if "resources" in e["container"]]
    assert asking == ["exec-train"]
    accelerator = executors["exec-train"]["container"]["resources"]["accelerator"]
    assert accelerator["resourceType"] == "nvidia.com/gpu" and accelerator["resourceCount"] == "1"
    platform = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-train"]
    assert platform["nodeSelector"]["labels"]
    assert platform["tolerations"]
    assert platform["emptyDirMounts"][0]["mountPath"] == "/dev/shm"


def test_no_step_is_cached_and_only_idempotent_ones_are_retried(documents: list[dict]) -> None:
    inner = next(c for n, c in documents[0]["components"].items() if n.startswith("comp-exit"))
    tasks = inner["dag"]["tasks"]
    assert not any(t.get("cachingOptions", {}).get("enableCache") for t in tasks.values())
    retried = {name for name, task in tasks.items() if "retryPolicy" in task}
    assert retried == {
        "ingest",
        "features",
        "encode",
        "tokenize",
        "train",
        "evaluate",
        "build-release",
    }


@pytest.mark.parametrize("path", COMPONENTS, ids=lambda p: p.stem)
def test_a_component_is_thin(path: Path) -> None:
    text = path.read_text()
    assert "from __future__" not in text  # it breaks kfp's reading of annotations
    assert len(text.splitlines()) <= 45


@pytest.mark.parametrize("folder", ["components", "pipelines"])
def test_no_postponed_annotations(folder: str) -> None:
    for path in (ROOT / folder).glob("*.py"):
        assert "from __future__ import annotations" not in path.read_text(), path
