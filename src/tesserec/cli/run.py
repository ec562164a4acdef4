"""`tesserec run`: the training pipeline through KFP's local runner, watched and summed up."""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tesserec.artifacts import write_atomic
from tesserec.cli.main import common
from tesserec.cli.output import Output, metric_table
from tesserec.cli.watch import watch
from tesserec.config import load_config, to_dict
from tesserec.errors import TesserecError, UsageError
from tesserec.locks import exclusive, is_free
from tesserec.project import ENV as PROJECT
from tesserec.project import find_project
from tesserec.steps.runner import RUN_LOCK, STEPS_LOCK

EXAMPLES = """examples:
  tesserec run configs/demo.yaml
  tesserec run configs/beauty.yaml --workdir work/beauty training.epochs=20
  tesserec run mine.yaml --json | jq .metrics
"""
ORPHANS_S = 60.0  # how long the steps of a killed run may take to end
EXIT_OF_ERROR = {"GateFailed": 3, "UsageError": 2}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, help="the run's YAML (docs/configuration.md)")
    parser.add_argument(
        "overrides", nargs="*", metavar="a.b=1", help="values that replace the YAML's"
    )
    common(parser, project=True)


def execute(options: argparse.Namespace, out: Output) -> int:
    config = load_config(options.config, options.overrides)
    project = find_project(options.project)
    workdir: Path = options.workdir.resolve()
    if workdir.exists() and not workdir.is_dir():
        raise UsageError(f"--workdir {workdir} is a file; name a folder")
    busy = f"another run is working in {workdir}; wait for it or stop it"
    with exclusive(workdir / ".lock", busy=busy):
        _clear_leftovers(workdir)
        folder = _new_run(workdir, config.name, to_dict(config))
        with exclusive(folder / "alive", busy=busy):
            records, return_code = _run(folder, project, out)
    result, code = _summary(workdir, folder, records, return_code)
    out.result(result)
    _tell(result, records, folder, code, out)
    return code


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


def _new_run(workdir: Path, name: str, config: dict[str, Any]) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = workdir / "reports" / f"{stamp}-{name}"
    number = 2
    while folder.exists():
        folder = workdir / "reports" / f"{stamp}-{name}-{number}"
        number += 1
    folder.mkdir(parents=True)
    run = {"run_id": folder.name, "workdir": str(workdir), "config": config, "started": stamp}
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


def _summary(
    workdir: Path, folder: Path, records: dict[str, dict[str, Any]], return_code: int | None
) -> tuple[dict[str, Any], int]:
    """The machine's answer (architecture: For machines) and the exit code."""
    gates = [
        {k: verdict[k] for k in ("name", "passed", "failed_expectations")}
        for step, record in records.items()  # in the order in which they ended
        if step.startswith("gate_") and (verdict := _read(record, "verdict.json"))
    ]
    release = _read(records.get("build_release"), "release.json")
    release_id = release["release_id"] if release else None
    metrics = _read(records.get("evaluate"), "metrics.json")
    report = folder / "report.html"
    result = {
        "workdir": str(workdir),
        "release_id": release_id,
        "promoted": "promote" in records and not records["promote"].get("error"),
        "gates": gates,
        "metrics": metrics and {**metrics, "release_id": release_id},
        "seconds": {step: r["seconds"] for step, r in records.items()},
        "report": str(report) if report.exists() else None,
    }
    errors = [r for r in records.values() if r.get("error")]
    if errors:
        result["error"] = f"{errors[0]['step']}: {errors[0]['error']}"
        return result, EXIT_OF_ERROR.get(errors[0]["error_type"], 1)
    return result, 0 if return_code == 0 and result["promoted"] else 1


def _read(record: dict[str, Any] | None, name: str) -> Any:
    if not record or not record.get("artifact"):
        return None
    path = Path(record["artifact"]["uri"]) / name
    return json.loads(path.read_text()) if path.exists() else None


def _tell(
    result: dict[str, Any],
    records: dict[str, dict[str, Any]],
    folder: Path,
    code: int,
    out: Output,
) -> None:
    reused = sum(1 for r in records.values() if r["reused"])
    total = sum(r["seconds"] for r in records.values())
    if result["metrics"]:
        metric_table(out, result["metrics"])
    if result["report"]:
        out.line(f"report: {result['report']}")
    if code == 0:
        out.line(
            f"release {result['release_id']} is promoted in {result['workdir']} "
            f"({len(records)} steps, {reused} already done, {total:.0f} s)"
        )
        return
    failed = [r for r in records.values() if r.get("error")]
    message = failed[0]["error"] if failed else f"the pipeline stopped; see {folder / 'run.log'}"
    if result["promoted"]:
        message = f"release {result['release_id']} is promoted, but the report was not written"
    step = f"{failed[0]['step']}: " if failed else ""
    out.error(f"{step}{message}")
    out.note(
        f"log: {folder / 'run.log'}; with the cause mended, the same command goes on after the "
        "last finished step"
    )
