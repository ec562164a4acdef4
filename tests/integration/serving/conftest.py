"""A small shop in a real feature store, two releases of it, and a real Triton that serves them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tesserec.artifacts import Artifact, build
from tesserec.config import LookupSettings, RunConfig, ServeSettings
from tesserec.data.schemas import INTERACTIONS, ITEMS
from tesserec.errors import UsageError
from tesserec.serving.client import Recommender
from tesserec.serving.environment import find_environment
from tesserec.serving.triton import TritonProcess, start
from tests.fakes import release as fake

PROJECT = Path(__file__).parents[3]
USERS = 150
START = 1_700_000_000


@dataclass
class Shop:
    """A working folder; `releases[0]` is promoted."""

    workdir: Path
    features: Artifact
    store: Artifact
    releases: list[str]


@pytest.fixture(scope="session")
def project() -> Path:
    try:
        find_environment(PROJECT)
    except UsageError as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no serving environment: {error}")
    return PROJECT


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, project: Path) -> Shop:
    return make_shop(tmp_path_factory.mktemp("shop"), project, RunConfig())


def make_shop(workdir: Path, project: Path, config: RunConfig) -> Shop:
    """A filled feature store as the configuration says, and two releases."""
    from tesserec.release import build_release, promote
    from tesserec.steps import feature_store, features

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TESSEREC_PROJECT", str(project))
        raw, _ = build(workdir, "raw", params={}, parents=(), version=1, make=_raw)
        made = features.run(workdir, config, raw)
        store = feature_store.run(workdir, config, made)
    releases = []
    for seed in (1, 2):
        parts = fake.artifacts(workdir, seed=seed)
        release = build_release(
            workdir,
            features=made,
            store=store,
            coded=(parts["vectors"], parts["codes"]),
            model=parts["model"],
            model_name="rpg",
            metrics=parts["metrics"],
        )
        releases.append(release)
    promote(workdir, releases[0])
    return Shop(workdir, made, store, releases)


@pytest.fixture(scope="session")
def server(shop: Shop, project: Path) -> Iterator[TritonProcess]:
    # Answers are compared here: a busy machine must not make the feature store late.
    settings = ServeSettings(features=LookupSettings(budget_ms=5000))
    with start(shop.workdir, project, settings=settings) as running:
        yield running


@pytest.fixture(scope="session")
def client(server: TritonProcess) -> Iterator[Recommender]:
    with Recommender(server.grpc, timeout_s=20) as opened:
        yield opened


@pytest.fixture
def light_models(tmp_path: Path) -> Path:
    """A model repository like ours but with features in memory: ready without importing Feast."""
    folder = tmp_path / "models" / "recommend"
    (folder / "1").mkdir(parents=True)
    ours = PROJECT / "serving" / "models" / "recommend"
    (folder / "config.pbtxt").write_text((ours / "config.pbtxt").read_text())
    text = (ours / "1" / "model.py").read_text()
    head = f"import sys\nsys.path.insert(0, {str(PROJECT)!r})\nimport tests.fakes.light\n"
    (folder / "1" / "model.py").write_text(head + text)
    return tmp_path / "models"


def _raw(folder: Path) -> None:
    rng = np.random.default_rng(5)
    events = []
    for user in range(USERS):
        count = 400 if user == 3 else (70 if user == 4 else 2 + user % 9)
        chosen = rng.integers(0, 45 if user != 3 else 40, count)
        times = START + np.sort(rng.integers(0, 10_000_000, count))
        for place, (row, time) in enumerate(zip(chosen, times, strict=True)):
            events.append((f"U{user}", fake.item_id(int(row)), int(time), place, "interaction"))
    columns = dict(zip(INTERACTIONS.names, zip(*events, strict=True), strict=True))
    interactions = pa.table(
        {name: list(values) for name, values in columns.items()}, schema=INTERACTIONS
    )
    rows = range(fake.ITEMS)
    items = pa.table(
        {
            "item_id": [fake.item_id(row) for row in rows],
            "title": [f"Title {row} – ü" for row in rows],
            "brand": [f"B{row % 5}" for row in rows],
            "categories": [[f"Shop > C{row % 6}"] for row in rows],
            "price": [float(row) for row in rows],
            "description": [None] * fake.ITEMS,
            "keywords": [None] * fake.ITEMS,
            "image_caption": [None] * fake.ITEMS,
            "available": [row != 11 for row in rows],
            "listed_at": [START] * fake.ITEMS,
        },
        schema=ITEMS,
    )
    for name, table in (("interactions", interactions), ("items", items)):
        (folder / name).mkdir()
        pq.write_table(table, folder / name / "part-00000.parquet")
    (folder / "counts.json").write_text("{}")
