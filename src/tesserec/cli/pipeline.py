"""A pipeline through KFP's local runner, in a process of its own, watched until it ends."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tesserec.artifacts import write_atomic
from tesserec.cli.output import Output
from tesserec.cli.watch import watch
from tesserec.errors import TesserecError
from tesserec.locks import exclusive, is_free
from tesserec.project import ENV as PROJECT
from tesserec.steps.runner import RUN_LOCK, STEPS_LOCK

ORPHANS_S = 60.0  # how long the steps of a killed run may take to end


def run_pipeline(
    workdir: Path,
    project: Path,
    pipeline: str,
    name: str,
    config: Mapping[str, Any],
    out: Output,
    arguments: Mapping[str, Any] | None = None,
) -> tuple[Path, dict[str, dict[str, Any]], int | None]:
    """Run it alone in the workdir; the run's folder, the records of its steps, the exit code.

    Args:
        pipeline: a name of `pipelines.compile.PIPELINES`.
        name: part of the folder's name below `reports/`.
        arguments: of the pipeline, besides workdir, run and configuration.

    Raises:
        TesserecError: another run is working in the workdir.
    """
    busy = f"another run is working in {workdir}; wait for it or stop it"
    with exclusive(workdir / ".lock", busy=busy):
        _clear_leftovers(workdir)
        folder = new_run(workdir, pipeline, name, config, arguments or {})
        with exclusive(folder / "alive", busy=busy):
            records, return_code = _run(folder, project, out)
    return folder, records, return_code


def _clear_leftovers(workdir: Path) -> None:
    """Wait until the steps of a killed run have ended, and delete what they left half-made.

    Raises:
        TesserecError: one of them does not end.
    """
    deadline = time.monotonic() + ORPHANS_S
    while not is_free(workdir / STEPS_LOCK, alone=True):
        if time.monotonic() > deadline:
            raise TesserecError(
                f"a step of a run that was killed still works in {workdir}; end it, then run again"
            )
        time.sleep(0.1)
    for scratch in (workdir / "artifacts").glob(".tmp-*"):
        shutil.rmtree(scratch, ignore_errors=True)


def _run(folder: Path, project: Path, out: Output) -> tuple[dict[str, dict[str, Any]], int | None]:
    """Run the pipeline of `folder`; the records of its steps, and the process's exit code."""
    process = _start(folder, project)
    try:
        out.note(f"run {folder.name} in {folder.parents[1]} (log: {folder / 'run.log'})")
        records = watch(process, folder, out)
    finally:
        _stop(process)
    return records, process.returncode


def new_run(
    workdir: Path,
    pipeline: str,
    name: str,
    config: Mapping[str, Any],
    arguments: Mapping[str, Any],
) -> Path:
    """The folder of a run that begins, with its `run.json`; the caller holds the workdir's lock."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = workdir / "reports" / f"{stamp}-{name}"
    number = 2
    while folder.exists():
        folder = workdir / "reports" / f"{stamp}-{name}-{number}"
        number += 1
    folder.mkdir(parents=True)
    run = {"run_id": folder.name, "workdir": str(workdir), "config": config, "started": stamp}
    run |= {"pipeline": pipeline, "arguments": arguments}
    write_atomic(folder / "run.json", json.dumps(run, indent=1))
    return folder


def _start(folder: Path, project: Path) -> subprocess.Popen[bytes]:
    # Threads that spin while they wait take the core that the others need: on a crowded machine a
    # training took half the time with a short spin, on an idle one the same (docs/log.md).
    environment = (
        {"GOMP_SPINCOUNT": "1000"}
        | os.environ
        | {
            PROJECT: str(project),
            RUN_LOCK: str(folder / "alive"),
            "PYTHONUNBUFFERED": "1",
            "GX_ANALYTICS_ENABLED": "false",
        }
    )
    with (folder / "run.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines.local", str(folder)],
            cwd=project,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent(),
        )


def _die_with_parent() -> Callable[[], None]:
    """The kernel kills the child when this process dies (Linux; PR_SET_PDEATHSIG)."""
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(1, signal.SIGKILL) and None


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
