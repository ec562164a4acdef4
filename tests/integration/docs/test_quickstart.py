"""docs/quickstart.md, word for word: its files are written, its commands run in order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import ROOT, environment

pytestmark = [pytest.mark.slow, pytest.mark.triton]


def test_every_block_works(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "quickstart.md").read_text()
    blocks = re.findall(r"```(\w+)\n(.*?)```", text, flags=re.DOTALL)
    assert [kind for kind, _ in blocks] == ["sh", "csv", "sh", "yaml", "sh"]
    (tmp_path / "shop.csv").write_text(blocks[1][1])
    (tmp_path / "shop.yaml").write_text(blocks[3][1])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    printed = ""
    for kind, block in blocks[1:]:  # the first one makes the environment that this test runs in
        if kind == "sh":
            done = subprocess.run(
                ["bash", "-eu", "-o", "pipefail", "-c", block],
                cwd=tmp_path,
                env=environment() | {"PATH": path},
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            printed += done.stdout
    answers = [a for a in printed.split("user U") if "answered by the model" in a]
    assert len(answers) == 2 and answers[0] != answers[1]
    assert "pushed: user" in printed
