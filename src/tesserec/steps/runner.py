"""What a pipeline step does around its one function: open parents, log, time, fail clearly."""

from __future__ import annotations

import fcntl
import importlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tesserec import progress
from tesserec.artifacts import Artifact, open_artifact, write_atomic
from tesserec.config import from_dict
from tesserec.errors import ArtifactError, TesserecError
from tesserec.locks import is_free, share

RUN_LOCK = "TESSEREC_RUN_LOCK"  # environment: a file that the run holds a lock on while it lives
STEPS_LOCK = ".steps.lock"  # in the workdir; shared by every process of a step
GONE = 70  # exit code of a step that ended because its run had
log = logging.getLogger("tesserec.steps")


def run_step(
    name: str, workdir: str, run_id: str, config: str, parents: Sequence[str], output: str
) -> None:
    """Run `tesserec.steps.<name>.run` on the artefacts that the parents' pointer files name.

    Writes the pointer of the new artefact to `output` and one line to the run's `steps.jsonl`.
    A foreseen error ends the process with its exit code and a message instead of a traceback.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    _die_with_the_run(Path(workdir))
    folder = _run_folder(workdir, run_id)
    os.environ[progress.ENV] = str(folder / "progress.json")
    (folder / "progress.json").unlink(missing_ok=True)
    try:
        with recorded(folder, name) as record:
            step = importlib.import_module(f"tesserec.steps.{name}")
            opened = [_open_pointer(p) for p in parents]
            artifact: Artifact = step.run(Path(workdir), from_dict(json.loads(config)), *opened)
            record(artifact)
            write_atomic(Path(output), json.dumps(artifact.pointer()))
    except TesserecError as error:
        log.error("%s failed: %s", name, error)
        sys.exit(error.exit_code)


@contextmanager
def recorded(folder: Path, name: str) -> Iterator[Callable[[Artifact], None]]:
    """Two lines of the run's `steps.jsonl`: the step began, and how it ended; an error goes on.

    Call what it yields with the artefact that the step made.
    """
    _append(folder / "steps.jsonl", {"step": name, "event": "start", "time": _now()})
    start = time.monotonic()
    made_before = time.time()
    record: dict[str, Any] = {"step": name, "event": "end", "artifact": None, "reused": False}

    def made(artifact: Artifact) -> None:
        record["artifact"] = artifact.pointer()
        record["reused"] = (artifact.path / "manifest.json").stat().st_mtime < made_before

    try:
        yield made
    except TesserecError as error:
        record |= {"error": str(error), "error_type": type(error).__name__}
        kept: Artifact | None = getattr(error, "artifact", None)
        record["artifact"] = kept.pointer() if kept else None
        raise
    except BaseException as error:
        record |= {"error": f"{type(error).__name__}: {error}", "error_type": "unexpected"}
        raise
    finally:
        record |= {"seconds": round(time.monotonic() - start, 2), "time": _now()}
        _append(folder / "steps.jsonl", record)


def run_report(workdir: str, run_id: str, *, state: str, error: str | None) -> None:
    """Write the run's report; the exit handler of the pipeline."""
    from tesserec.steps import report

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    _die_with_the_run(Path(workdir))
    log.info("pipeline ended as %s %s", state, error or "")
    report.run(Path(workdir), run_id)


def run_freshness(workdir: str, run_id: str, *, state: str, error: str | None) -> None:
    """Write both reports of a re-tokenization; the exit handler of its pipeline."""
    from tesserec.steps import freshness

    run_report(workdir, run_id, state=state, error=error)
    freshness.run(Path(workdir), run_id)


def _open_pointer(path: str) -> Artifact:
    pointer = json.loads(Path(path).read_text())
    artifact = open_artifact(Path(pointer["uri"]))
    if artifact.content_hash != pointer["content_hash"]:
        raise ArtifactError(
            f"artefact {pointer['uri']} has other contents than the step that made it wrote down; "
            "delete the folder and run again"
        )
    return artifact


def _run_folder(workdir: str, run_id: str) -> Path:
    folder = Path(workdir) / "reports" / run_id
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _append(path: Path, record: dict[str, Any]) -> None:
    with path.open("a") as handle:
        handle.write(json.dumps(record) + "\n")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _die_with_the_run(workdir: Path) -> None:
    """End this process as soon as the run that started it is gone, however it went.

    The run holds an exclusive lock on a file of its own, which TESSEREC_RUN_LOCK names; the kernel
    frees it with the process. A thread waits for it: no polling, and no pid that another process
    may get. Until it has ended, this process shares STEPS_LOCK: the next run waits for it.
    """
    path = os.environ.get(RUN_LOCK)
    if not path:
        return
    share(workdir / STEPS_LOCK)
    if is_free(Path(path)):  # the run went while this process was starting
        log.error("the run that started this step is gone")
        os._exit(GONE)

    def wait() -> None:
        with open(path) as handle:
            fcntl.flock(handle, fcntl.LOCK_SH)
        os._exit(GONE)

    threading.Thread(target=wait, daemon=True, name="die-with-the-run").start()
