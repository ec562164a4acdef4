"""A workdir with features and a filled Feast store; a real Redis on a free port."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tesserec.artifacts import Artifact
from tesserec.config import RunConfig, from_dict
from tesserec.steps import feature_store, features
from tests.command import ROOT
from tests.fakes.raw import Event, catalogue, random_events, raw_artifact

USERS = 60
STORES = ["feature_store.yaml", "feature_store.cluster.yaml"]


@pytest.fixture(autouse=True)
def project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESSEREC_PROJECT", str(ROOT))


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a Redis of our own. Without redis-server: a skip, in CI a failure."""
    program = shutil.which("redis-server")
    if program is None:
        message = "redis-server is not installed (apt-get install redis-server)"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir"]
    server = subprocess.Popen([*command, str(folder)], stdout=subprocess.DEVNULL)
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            time.sleep(0.1)
    yield f"127.0.0.1:{port}"
    server.terminate()
    server.wait(10)


@pytest.fixture(params=[STORES[0], pytest.param(STORES[1], marks=pytest.mark.redis)])
def config(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> RunConfig:
    """A run's configuration for SQLite, and one for Redis with a SQL registry."""
    if request.param == STORES[1]:
        address = request.getfixturevalue("redis_server")
        import redis

        host, port = address.split(":")
        redis.Redis(host, int(port)).flushall()
        monkeypatch.setenv("TESSEREC_REDIS", address)
        monkeypatch.setenv("TESSEREC_REGISTRY", f"sqlite:///{tmp_path}/registry.db")
    return from_dict({"feature_store": request.param, "split": {"protocol": "time"}})


@pytest.fixture(scope="session")
def kept() -> dict[tuple[Event, ...], Path]:
    """Features that a test of this session has made."""
    return {}


@pytest.fixture
def make_features(
    tmp_path: Path, config: RunConfig, kept: dict[tuple[Event, ...], Path]
) -> Callable[[list[Event]], Artifact]:
    """The features artefact of some events; Beam makes it once a session."""

    def make(events: list[Event]) -> Artifact:
        raw = raw_artifact(tmp_path, events, catalogue(40))
        if tuple(events) in kept:
            source = kept[tuple(events)]
            shutil.copytree(source, tmp_path / "artifacts" / source.name, dirs_exist_ok=True)
        artifact = features.run(tmp_path, config, raw)
        kept[tuple(events)] = artifact.path
        return artifact

    return make


@pytest.fixture
def events() -> list[Event]:
    """Shuffled events of some users; one of them comes after every cut."""
    found = random_events(USERS, 40, 70)
    return [*found, ("zoe", "i1", max(t for _, _, t, _ in found if t is not None), 0)]


@pytest.fixture
def made(
    tmp_path: Path,
    config: RunConfig,
    events: list[Event],
    make_features: Callable[[list[Event]], Artifact],
) -> Artifact:
    """The features artefact of `events`, with the store of `tmp_path` filled by it."""
    artifact = make_features(events)
    feature_store.run(tmp_path, config, artifact)
    return artifact
