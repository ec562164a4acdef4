"""What `tesserec run` says of an ended pipeline."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tesserec.cli import run
from tesserec.cli.output import Output
from tesserec.cli.watch import in_words, watch


def ended(folder: Path, *records: dict[str, Any]) -> dict[str, dict[str, Any]]:
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "steps.jsonl").write_text(lines)
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return watch(process, folder, Output())


def done(step: str) -> list[dict[str, Any]]:
    end = {"step": step, "event": "end", "artifact": None, "reused": False, "seconds": 1.0}
    return [{"step": step, "event": "start"}, end]


def test_a_step_that_was_killed_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = ended(tmp_path, *done("ingest"), {"step": "train", "event": "start"})
    result, code = run._summary(tmp_path, tmp_path, records, 1)
    run._tell(result, records, tmp_path, code, Output())
    assert code == 1 and "train: its process was killed" in capsys.readouterr().err


def test_a_report_that_failed_alone_is_told_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = ended(tmp_path, *done("promote"))
    result, code = run._summary(tmp_path, tmp_path, records, 1)
    run._tell(result, records, tmp_path, code, Output())
    assert code == 1 and result["promoted"] is True and result["report"] is None
    assert "is promoted, but the report was not written" in capsys.readouterr().err


def test_progress_is_told_in_words() -> None:
    state = {"done": 3, "total": 9, "epoch": 1, "epochs": 3, "loss": 5.2, "seconds_left": 240.0}
    assert in_words(state) == "epoch 1/3 · loss 5.200 · 4 min left"
    assert in_words({"done": 3, "total": 9}) == "3 of 9"
