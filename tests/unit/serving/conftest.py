"""A tiny promoted release, and a handler over it with a feature store in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tesserec.release import promote
from tesserec.serving.handler import Handler
from tesserec.serving.manager import Manager
from tests.fakes.patience import patient_lookup
from tests.fakes.release import FakeReader, tiny_release


@pytest.fixture(scope="session", autouse=True)
def patient() -> Iterator[None]:
    """Answers are compared: a busy machine must not make a store in memory late."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tesserec.serving.handler.Lookup", patient_lookup)
        yield


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with one promoted release; read only."""
    workdir = tmp_path_factory.mktemp("shop")
    promote(workdir, tiny_release(workdir))
    return workdir


@pytest.fixture(scope="session")
def handler(shop: Path) -> Handler:
    return Handler(shop, manager=Manager(shop, reader=lambda _: FakeReader()))
