"""A step lives as long as its run, and no longer; the next run waits for the last step's end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tesserec.cli import pipeline
from tesserec.errors import TesserecError
from tesserec.locks import exclusive, is_free
from tesserec.steps.runner import GONE, RUN_LOCK, STEPS_LOCK

STEP = """
import sys, types, time, pathlib
from tesserec.steps import runner
def work(workdir, config):
    print("working", flush=True)
    time.sleep(30)
sys.modules["tesserec.steps.sleepy"] = types.SimpleNamespace(run=work)
runner.run_step("sleepy", sys.argv[1], "r1", "{}", [], sys.argv[1] + "/out")
"""


@contextmanager
def step(workdir: Path, alive: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", STEP, str(workdir)]
    environment = os.environ | {RUN_LOCK: str(alive)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_step_that_starts_after_its_runs_end_does_no_work(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    alive.touch()
    # The next run holds the workdir already: that must not look like the step's own run.
    with exclusive(tmp_path / ".lock", busy="busy"), step(tmp_path, alive) as process:
        assert process.stdout and process.stdout.read() == b""
        assert process.wait(20) == GONE
    assert not (tmp_path / "reports" / "r1").exists()


def test_the_next_run_waits_until_the_steps_of_the_last_one_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leftover = tmp_path / "artifacts" / ".tmp-raw-0"
    leftover.mkdir(parents=True)
    alive = tmp_path / "alive"
    with exclusive(alive, busy="busy"), step(tmp_path, alive) as process:
        assert process.stdout and process.stdout.readline() == b"working\n"
        monkeypatch.setattr(pipeline, "ORPHANS_S", 0.2)
        with pytest.raises(TesserecError, match="a step of a run that was killed still works"):
            pipeline._clear_leftovers(tmp_path)
        assert leftover.exists()
        process.kill()
        process.wait()
        pipeline._clear_leftovers(tmp_path)
    assert is_free(tmp_path / STEPS_LOCK, alone=True) and not leftover.exists()


def test_a_step_ends_with_its_run(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    with exclusive(alive, busy="busy"):
        context = step(tmp_path, alive)
        process = context.__enter__()
        assert process.stdout and process.stdout.readline() == b"working\n"
    began = time.monotonic()
    assert process.wait(10) == GONE and time.monotonic() - began < 5
    context.__exit__(None, None, None)
