"""`tesserec run`: the real pipeline through KFP's local runner, from raw events to promotion."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tesserec.project import find_project
from tests.command import ROOT, environment, tesserec

pytestmark = pytest.mark.triton
STEPS = {
    "ingest", "gate_raw", "features", "gate_features", "feature_store", "encode", "tokenize",
    "gate_codes", "train", "evaluate", "gate_metrics", "build_release", "rehearse", "promote",
}  # fmt: skip


def test_a_run_ends_with_a_promoted_release(finished: tuple[Path, dict]) -> None:
    workdir, result = finished
    assert result["promoted"] and result["workdir"] == str(workdir)
    assert set(result["seconds"]) == STEPS
    assert [g["name"] for g in result["gates"]] == [
        "gate_raw", "gate_features", "gate_codes", "gate_metrics",
    ]  # fmt: skip
    assert all(g["passed"] for g in result["gates"])
    kept = result["metrics"]["kept"]
    assert kept["ndcg@10"] > result["metrics"]["baselines"]["popularity"]["kept"]["ndcg@10"]
    assert Path(result["report"]).read_text().startswith("<!doctype html>")
    pointer = json.loads((workdir / "promoted").read_text())
    assert pointer["release_id"] == result["release_id"]


def test_a_second_run_finds_each_step_done(finished: tuple[Path, dict], tiny_config: Path) -> None:
    workdir, first = finished
    again = tesserec("run", str(tiny_config), "--workdir", str(workdir), "--json")
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("already done") == len(STEPS)
    assert json.loads(again.stdout)["release_id"] == first["release_id"]


def test_evaluate_gives_means_over_seeds(
    finished: tuple[Path, dict], tiny_config: Path, tmp_path: Path
) -> None:
    workdir, first = finished
    other = tmp_path / "other"
    shutil.copytree(workdir, other)
    together = ("evaluate", "--workdir", str(workdir), "--also", str(other), "--json")
    copy = tesserec(*together)
    assert copy.returncode == 2 and "one run counts as one seed" in copy.stderr
    changed = ("training.label_smoothing=0.1", "gates.max_loss=1", "gates.max_slice_loss=1")
    run = tesserec("run", str(tiny_config), *changed, "--workdir", str(other), "--json")
    assert run.returncode == 0, run.stderr
    second = json.loads(run.stdout)
    done = tesserec(*together)
    assert done.returncode == 0, done.stderr
    seeds = json.loads(done.stdout)["seeds"]
    assert seeds["releases"] == [first["release_id"], second["release_id"]]
    each = [one["metrics"]["kept"]["ndcg@10"] for one in (first, second)]
    ours = seeds["rankers"]["rpg"]["kept"]
    assert ours["ndcg@10"] == pytest.approx(sum(each) / 2)
    assert ours["ndcg@10_sd"] == pytest.approx(abs(each[0] - each[1]) / 2**0.5)
    nowhere = tesserec("evaluate", "--workdir", str(workdir), "--also", str(tmp_path / "none"))
    assert nowhere.returncode == 2 and "no release is promoted" in nowhere.stderr


def test_a_second_live_run_is_refused(tiny_config: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tesserec.cli", "run", str(tiny_config)]
    with subprocess.Popen([*command, "--workdir", str(tmp_path)], env=environment()) as first:
        while not list(tmp_path.glob("reports/*/run.json")):
            assert first.poll() is None
        second = tesserec("run", str(tiny_config), "--workdir", str(tmp_path))
        first.terminate()
    assert second.returncode == 1
    assert f"another run is working in {tmp_path}" in second.stderr


def test_a_gate_that_says_no_exits_3_and_promotes_nothing(
    tiny_config: Path, tmp_path: Path
) -> None:
    done = tesserec(
        "run", str(tiny_config), "gates.min_rows=1000000", "--workdir", str(tmp_path), "--json"
    )
    assert done.returncode == 3, done.stderr
    result = json.loads(done.stdout)
    assert not result["promoted"] and not (tmp_path / "promoted").exists()
    assert [g["passed"] for g in result["gates"]] == [False]
    assert result["gates"][0]["failed_expectations"]
    assert result["report"] and "gate_raw" in Path(result["report"]).read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nothing.yaml"], "no configuration nothing.yaml"),
        (["run", "CONFIG", "trainin.epochs=1"], "did you mean 'training'"),
        (["recommend"], "name a user"),
        (["release", "list", "--workdir", "nowhere"], "no workdir"),
    ],
)
def test_wrong_use_exits_2_without_a_traceback(
    tiny_config: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    arguments = [str(tiny_config) if a == "CONFIG" else a for a in arguments]
    done = tesserec(*arguments)
    assert done.returncode == 2 and message in done.stderr
    assert "Traceback" not in done.stderr


def test_outside_a_project_the_remedy_is_named(tiny_config: Path, tmp_path: Path) -> None:
    bare = {k: v for k, v in environment().items() if k != "TESSEREC_PROJECT"}
    code = (  # as an installed wheel, which knows no checkout
        "import sys, pathlib, tesserec.project as p; p.CHECKOUT = pathlib.Path('/nowhere');"
        "from tesserec.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "run", str(tiny_config)],
        env=bare, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and "--project" in done.stderr and str(ROOT) not in done.stderr


def test_an_editable_install_knows_its_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TESSEREC_PROJECT", raising=False)
    monkeypatch.chdir(tmp_path)
    assert find_project() == ROOT
