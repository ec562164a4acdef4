"""The real server under more load than it can bear, and with a log that may grow no further."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tesserec.config import LimitSettings, ServeSettings
from tesserec.release import promote
from tesserec.serving.client import Recommender
from tesserec.serving.triton import MODEL, start
from tests.fakes.release import tiny_release

pytestmark = pytest.mark.triton
LOADS = Path(__file__).parents[3] / "benchmarks" / "serving"
MIB = 16
FILL = f"""
import os
try:
    for _ in range({MIB + 4}):
        os.write(2, b"x" * (1 << 20))
except OSError as error:
    os.environ["FULL"] = str(error)
"""
ASKED = json.dumps({"users": [f"U{n}" for n in range(100)], "k": 10})


def load(script: str, *words: object) -> Any:
    command = [sys.executable, str(LOADS / script), *map(str, words)]
    done = subprocess.run(command, input=ASKED, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_log_that_is_full_ends_nothing(tmp_path: Path, project: Path, light_models: Path) -> None:
    promote(tmp_path / "work", tiny_release(tmp_path / "work"))
    model = light_models / "recommend" / "1" / "model.py"
    model.write_text(FILL + "assert 'large' in os.environ['FULL']\n" + model.read_text())
    settings = ServeSettings(limits=LimitSettings(shm_mib=MIB))
    with start(
        tmp_path / "work", project, models=light_models, settings=settings, publish=False
    ) as server:
        assert server.log.stat().st_size == MIB << 20
        with Recommender(server.grpc, timeout_s=20) as client:
            for user in range(50):
                assert client.recommend(user_id=f"U{user}").item_ids
        server.check()


@pytest.mark.slow
def test_overload_is_refused_and_over_when_it_ends(
    tmp_path: Path, project: Path, light_models: Path
) -> None:
    """The generator shares the machine, so the bounds are wide; figures: `make bench-overload`."""
    promote(tmp_path / "work", tiny_release(tmp_path / "work"))
    settings = ServeSettings(limits=LimitSettings(queue=32))
    with start(
        tmp_path / "work", project, models=light_models, settings=settings, publish=False
    ) as server:
        knee = load("load.py", server.grpc, MODEL, 16, 3)["per_second"]
        phases = (f"{5 * knee}:5", f"{knee / 4}:5")
        over, after = load("open_loop.py", server.grpc, MODEL, 1.0, 0, *phases)
        server.check()
    assert set(over["codes"]) <= {"OK", "UNAVAILABLE", "DEADLINE_EXCEEDED"}, over
    assert over["codes"]["UNAVAILABLE"] > 100, over
    assert after["all_good_after_s"] < 2.5 and after["codes"]["OK"] > 0.5 * 5 * knee / 4, after
