"""`tesserec release`: a candidate is tried, shown, completed and cancelled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tesserec.cli.main import main
from tesserec.release import CANARY, promote, read_pointer, try_release
from tesserec.release.candidate import withdraw_candidate
from tesserec.serving.server_file import write_server_file
from tesserec.serving.status import write_status
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


def test_the_list_tells_what_the_running_server_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tiny_release(tmp_path), tiny_release(tmp_path, seed=2)
    promote(tmp_path, first)
    since = try_release(tmp_path, second, mode=CANARY, share=0.5)["candidate"]["since"]
    write_server_file(tmp_path, {"pid": 77, "grpc": "127.0.0.1:1"})
    figures = {"requests": 40, "error_rate": 0.25, "latency_ratio": None, "agreement": 0.5}
    second_place = {"release_id": second, "role": CANARY, "share": 0.5, "since": since}
    status = {
        "pid": 78,
        "server": 77,
        "at": since,
        "serving": first,
        "second": second_place | {"figures": figures},
        "refused": [{"release_id": "r00000000000", "reason": "damaged", "at": since}],
    }
    write_status(tmp_path, status)
    monkeypatch.setattr("tesserec.serving.server_file.alive", lambda pid: pid == 77)
    assert run(capsys, tmp_path, "list")["server"] == status
    withdraw_candidate(tmp_path, since, "too slow", by="me")
    assert main(["release", "list", "--workdir", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert f"the server (process 78) serves {first}" in told
    assert "canary" in told and "error_rate 0.25" in told and "latency_ratio" not in told
    assert "refused: r00000000000: damaged" in told
    assert f"{second} (canary) was withdrawn: too slow" in told
    write_status(tmp_path, status | {"server": 1})  # of a server that is gone
    assert run(capsys, tmp_path, "list")["server"] is None
