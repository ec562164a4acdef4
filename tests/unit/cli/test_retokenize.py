"""`tesserec retokenize`: every cadence ends with a report, also one that a gate stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tesserec.cli.main import main
from tesserec.errors import GateFailed
from tesserec.release import promoted
from tesserec.report import plots
from tesserec.retokenization import drill
from tesserec.steps import freshness, hand_over, judge
from tests.fakes.stock import row, source_rows, stock_release, write_source

KEYS = {"release_id", "parent", "cadence", "new_items", "reachable", "seconds", "report"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "uri", lambda figure: "data:image/svg+xml;base64,")
    monkeypatch.setattr(drill, "_answer", lambda *_: None)


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    stock_release(tmp_path, tmp_path / "data")
    write_source(tmp_path / "data", [*source_rows(), row(100), row(101)])
    return tmp_path


def answer(capsys: pytest.CaptureFixture[str], workdir: Path, *words: str) -> tuple[int, Any, str]:
    """Exit code, the JSON object and standard error."""
    code = main(["retokenize", *words, "--workdir", str(workdir), "--json"])
    said = capsys.readouterr()
    return code, json.loads(said.out), said.err


def facts_of(report: str) -> dict[str, Any]:
    assert Path(report).name == "freshness.html" and Path(report).is_file()
    return json.loads((Path(report).parent / "freshness.json").read_text())


def test_encode_promotes_and_reports(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told, notes = answer(capsys, workdir, "encode")
    assert code == 0 and set(told) >= KEYS and told["release_id"] == promoted(workdir)
    facts = facts_of(told["report"])
    assert facts["release_id"] == promoted(workdir) and facts["run"]["ok"]
    assert [s["step"] for s in facts["run"]["steps"]] == ["survey", "extend", "judge", "hand_over"]
    assert facts["run"]["gates"] == {"canary": True, "judge": True, "hand_over": True}
    assert facts["lag"]["items"] == 2 and facts["run"]["waiting"] == 0
    assert facts["rollback_drill"]["release_id"] == told["parent"]
    assert "report" in notes
    code = main(["retokenize", "encode", "--workdir", str(workdir)])  # nothing more to do
    said = capsys.readouterr().out
    assert code == 0 and "nothing to do" in said and "report: " in said.splitlines()[-1]


def test_decide_reports_what_waits(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told, _ = answer(capsys, workdir, "decide")
    assert code == 0 and set(told) >= KEYS and told["decision"]["due"] == "encode"
    facts = facts_of(told["report"])
    assert facts["run"]["cadence"] == "decide" and facts["run"]["waiting"] == 2


@pytest.mark.parametrize(("step", "name"), [(judge, "judge"), (hand_over, "hand_over")])
def test_a_gate_that_says_no_is_reported_too(
    workdir: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    step: Any,
    name: str,
) -> None:
    def no(*_: Any) -> Any:
        raise GateFailed("a ranking differs")

    before = promoted(workdir)
    monkeypatch.setattr(judge, "run", lambda *_: extension_of(workdir))
    monkeypatch.setattr(step, "run", no)
    code, told, notes = answer(capsys, workdir, "encode")
    assert code == 3 and told["error"] == "a ranking differs" and promoted(workdir) == before
    facts = facts_of(told["report"])
    assert facts["run"]["failed"] == {"step": name, "error": "a ranking differs", "gate": True}
    assert facts["run"]["waiting"] == 2 and facts["release_id"] == before
    assert "error: a ranking differs" in notes
    assert "What to do:" in Path(told["report"]).read_text()


def extension_of(workdir: Path) -> Any:
    from tesserec.artifacts import open_artifact

    return open_artifact(next((workdir / "artifacts").glob("extension-*")))


def test_a_report_that_fails_fails_no_run(
    workdir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise OSError("no space left on device")

    monkeypatch.setattr(freshness, "run", full)
    code, told, notes = answer(capsys, workdir, "decide")
    assert code == 0 and told["report"] is None
    assert "note: the report was not written: OSError: no space left on device" in notes


def test_what_fails_before_it_began_leaves_no_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told, _ = answer(capsys, tmp_path, "encode")
    assert code == 2 and "no release is promoted" in told["error"]
    assert not list(tmp_path.glob("reports/*"))
