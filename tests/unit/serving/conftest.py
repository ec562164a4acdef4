"""A tiny promoted release, and a handler over it with a feature store in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tesserec.release import promote
from tesserec.serving.handler import Handler
from tesserec.serving.manager import Manager
from tests.fakes.release import FakeReader, tiny_release


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with one promoted release; read only."""
    workdir = tmp_path_factory.mktemp("shop")
    promote(workdir, tiny_release(workdir))
    return workdir


@pytest.fixture(scope="session")
def handler(shop: Path) -> Handler:
    return Handler(shop, manager=Manager(shop, reader=lambda _: FakeReader()))
