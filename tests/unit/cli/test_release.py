"""`tesserec release`: a candidate is tried, shown, completed and cancelled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tesserec.cli.main import main
from tesserec.release import promote, read_pointer
from tests.fakes.release import tiny_release


def run(capsys: pytest.CaptureFixture[str], workdir: Path, *words: str) -> dict[str, Any]:
    assert main(["release", *words, "--workdir", str(workdir), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_candidate_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tiny_release(tmp_path), tiny_release(tmp_path, seed=2)
    promote(tmp_path, first)
    tried = run(capsys, tmp_path, "promote", second, "--canary", "5%")
    assert tried["promoted"] is False and tried["canary"]["share"] == 0.05
    listed = run(capsys, tmp_path, "list")
    assert listed["canary"]["release_id"] == second and listed["canary"]["mode"] == "canary"
    assert listed["server"] is None and listed["withdrawn"] is None
    assert [row["promoted"] for row in listed["releases"]] == [False, True]
    assert main(["release", "list", "--workdir", str(tmp_path)]) == 0
    assert "canary 5%" in capsys.readouterr().out
    cancelled = run(capsys, tmp_path, "rollback")
    assert cancelled["release_id"] == first and cancelled["canary"] is None
    assert run(capsys, tmp_path, "promote", second, "--shadow")["canary"]["share"] == 1
    assert run(capsys, tmp_path, "promote", second)["previous"] == first
    back = run(capsys, tmp_path, "rollback")
    assert back["release_id"] == first and back["previous"] == second
    assert (read_pointer(tmp_path) or {})["candidate"] is None


@pytest.mark.parametrize("share", ["0", "0%", "101%", "x", "-5%", "nan"])
def test_a_bad_share_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], share: str
) -> None:
    with pytest.raises(SystemExit) as error:
        main(["release", "promote", "r0", f"--canary={share}", "--workdir", str(tmp_path)])
    assert error.value.code == 2
    assert "5%" in capsys.readouterr().err
