"""The command line: where arguments may stand, messages and exit codes; no pipeline is started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tesserec import demo
from tesserec.cli import run
from tesserec.cli.main import main


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The options that `tesserec run` would have worked with."""
    seen: list[Any] = []
    monkeypatch.setattr(run, "execute", lambda options, out: seen.append(options) or 0)
    return seen


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "a.yaml", "x=1", "y.z=2", "--workdir", "w"],
        ["run", "a.yaml", "--workdir", "w", "x=1", "y.z=2"],
        ["run", "--workdir", "w", "a.yaml", "x=1", "--json", "y.z=2"],
    ],
)
def test_overrides_may_stand_behind_options(told: list[Any], arguments: list[str]) -> None:
    assert main(arguments) == 0
    assert told[0].overrides == ["x=1", "y.z=2"] and told[0].workdir == Path("w")


@pytest.mark.parametrize("arguments", [["run", "a.yaml", "--jsn"], ["release", "list", "x=1"]])
def test_an_unknown_argument_is_wrong_use(arguments: list[str], told: list[Any]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert not told


def test_the_demo_takes_overrides_where_make_puts_them(
    told: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(run, "execute", lambda options, out: told.append(options) or 7)
    monkeypatch.setattr("sys.argv", ["demo", "a.yaml", "--workdir", str(tmp_path), "name=x"])
    assert demo.main() == 7
    assert told[0].overrides == ["name=x"] and told[0].workdir == tmp_path


def test_rules_must_be_an_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", "--user", "u", "--rules", "[1]"]) == 2
    assert "no JSON object" in capsys.readouterr().err


def test_a_workdir_that_cannot_be_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    config = tmp_path / "a.yaml"
    config.write_text("name: a")
    code = main(["run", str(config), "--workdir", str(tmp_path / "file" / "work"), "--json"])
    streams = capsys.readouterr()
    assert code == 1 and str(tmp_path / "file") in json.loads(streams.out)["error"]
    assert str(tmp_path / "file") in streams.err and "may be written" in streams.err
    assert "unexpected" not in streams.err


def test_a_result_is_one_json_object(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ["data", "make", str(tmp_path), "--users", "20", "--items", "20", "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["users"] == 20
