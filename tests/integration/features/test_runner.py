"""The same files by several Beam workers in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tesserec.config import from_dict
from tesserec.steps import features
from tests.fakes.raw import catalogue, random_events, raw_artifact


@pytest.mark.slow
def test_several_processes_write_the_same_bytes(tmp_path: Path) -> None:
    hashes = set()
    for name, options in (
        ("one", {}),
        ("two", {"direct_running_mode": "multi_processing", "direct_num_workers": 2}),
    ):
        config = from_dict({"features": {"runner_options": options}})
        raw = raw_artifact(tmp_path / name, random_events(200, 40, 30), catalogue(40))
        hashes.add(features.run(tmp_path / name, config, raw).content_hash)
    assert len(hashes) == 1
