"""A tiny shop, run through the whole pipeline once for all tests of this folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.command import TINY, tesserec


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


@pytest.fixture(scope="session")
def finished(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """The workdir of an undisturbed run, and what `run --json` printed."""
    workdir = tmp_path_factory.mktemp("finished")
    done = tesserec("run", str(tiny_config), "--workdir", str(workdir), "--json")
    assert done.returncode == 0, done.stderr
    return workdir, json.loads(done.stdout)
