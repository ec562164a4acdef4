"""A run killed with -9 in each of its steps ends, started again, with the same release."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tesserec.artifacts import open_artifact
from tests.command import environment, tesserec

pytestmark = [pytest.mark.slow, pytest.mark.triton, pytest.mark.timeout(1800)]


def processes_naming(text: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes()
                variables = (entry / "environ").read_bytes()
            except OSError:
                continue
            if text.encode() in command + variables:
                found.append(int(entry.name))
    return found


def kill_in(step: str, config: Path, workdir: Path) -> None:
    """Start the run, wait until `step` has begun, kill -9, wait for the children."""
    before = set(workdir.glob("reports/*"))
    command = [sys.executable, "-m", "tesserec.cli", "run", str(config), "--workdir", str(workdir)]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as run:
        log = ""
        while f'"step": "{step}", "event": "start"' not in log:
            assert run.poll() is None, f"the run ended before {step} began"
            time.sleep(0.02)
            for folder in set(workdir.glob("reports/*")) - before:
                if (folder / "steps.jsonl").exists():
                    log = (folder / "steps.jsonl").read_text()
        # Into the middle of the step: for training, until it has a checkpoint to come back to.
        deadline = time.monotonic() + (20 if step == "train" else 0.3)
        while time.monotonic() < deadline and not list(workdir.glob("checkpoints/*/*")):
            time.sleep(0.05)
        run.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while processes_naming(str(workdir)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not processes_naming(str(workdir)), f"processes outlive a run killed in {step}"


def every_readable_artefact_is_whole(workdir: Path) -> None:
    for folder in (workdir / "artifacts").glob("[!.]*"):
        open_artifact(folder, verify=True)


def contents(workdir: Path, release_id: str) -> dict[str, str]:
    manifest = json.loads((workdir / "releases" / release_id / "manifest.json").read_text())
    return {name: entry["sha256"] for name, entry in manifest["files"].items()}


def test_kill_9_in_each_step(
    finished: tuple[Path, dict], tiny_config: Path, tmp_path: Path
) -> None:
    undisturbed, result = finished
    for step in result["seconds"]:
        kill_in(step, tiny_config, tmp_path)
        every_readable_artefact_is_whole(tmp_path)
    done = tesserec("run", str(tiny_config), "--workdir", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert again["release_id"] == result["release_id"]
    one, two = (contents(w, result["release_id"]) for w in (undisturbed, tmp_path))
    parts = ("codes/", "models/", "tokenizer/", "encoder/", "items/", "decoder/")
    assert {n: h for n, h in one.items() if n.startswith(parts)} == {
        n: h for n, h in two.items() if n.startswith(parts)
    }
