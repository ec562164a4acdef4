"""Every YAML of configs/ is a valid configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from tesserec.config import load_config

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_config_loads(path: Path) -> None:
    config = load_config(path, ["data.path=somewhere"])
    assert config.training.epochs >= 1


def test_there_are_configs() -> None:
    assert {p.name for p in CONFIGS} >= {
        "demo.yaml",
        "quick.yaml",
        "beauty.yaml",
        "sports.yaml",
        "games.yaml",
        "ml100k.yaml",
    }
