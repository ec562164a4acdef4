"""Re-tokenization of a shop: a killed tuning goes on; the pipeline does what is due; rebuild."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tesserec.cli.output import Output
from tesserec.cli.pipeline import run_pipeline
from tesserec.config import change_config, to_dict
from tesserec.data.make import make_shop
from tesserec.decoders.aliases import AliasScorer
from tesserec.features.push import push_event
from tesserec.recommender import Recommender
from tesserec.release import promoted, verify
from tesserec.retokenization.history import read_history
from tesserec.retokenization.ledger import read_ledger, replay
from tesserec.retokenization.stock import open_stock
from tesserec.tables import grow_codes
from tests.command import ROOT, TINY, environment, tesserec

pytestmark = [pytest.mark.slow, pytest.mark.triton, pytest.mark.timeout(1800)]
NEW, EVENTS = 40, 160
LOOSE = ["gates.max_loss=1", "gates.max_slice_loss=1"]
LONG = ["retokenization.tuning.epochs=60", "training.checkpoint_s=0.05"]
PATIENCE_S = 300.0


@dataclass
class Shop:
    """A workdir of its own; `sources[i]` lists i times NEW new items."""

    workdir: Path
    sources: list[Path]

    def where(self, source: int) -> list[str]:
        return ["data.source=tesserec", f"data.path={self.sources[source]}"]

    def retokenize(
        self, action: str, source: int, *more: str, workdir: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        home = ["--workdir", str(workdir or self.workdir), "--json"]
        return tesserec("retokenize", action, *home, *self.where(source), *more)

    def pipeline(self, source: int, cadence: str = "due") -> dict[str, dict[str, Any]]:
        """The records of its steps."""
        config = change_config(open_stock(self.workdir).config, [*self.where(source), *LOOSE])
        out, given = Output(json_only=True), {"cadence": cadence}
        _, records, code = run_pipeline(
            self.workdir, ROOT, "retokenization", cadence, to_dict(config), out, given
        )
        assert code == 0, records
        return records


@pytest.fixture(scope="module")
def shop(finished: tuple[Path, dict], tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("cadences")
    workdir = copied(finished[0], folder / "work")
    sizes = {"users": TINY["data"]["generated_users"], "items": TINY["data"]["generated_items"]}
    sources = [folder / f"shop-{step}" for step in range(3)]
    for step, source in enumerate(sources):
        make_shop(source, **sizes, seed=1, new_items=step * NEW)
    return Shop(workdir, sources)


def copied(source: Path, target: Path) -> Path:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("serving"))
    for path in (target / "feature_store").glob("*.yaml"):
        path.write_text(path.read_text().replace(str(source), str(target)))
    return target


def test_a_killed_maintain_goes_on_with_the_same_release(shop: Shop) -> None:
    encoded = shop.retokenize("encode", 1)
    assert encoded.returncode == 0, encoded.stderr
    parent = json.loads(encoded.stdout)["release_id"]
    new = open_stock(shop.workdir).item_ids[-NEW:]
    now = int(time.time())
    for number in range(EVENTS):
        push_event(shop.workdir, f"U{number % 60:06d}", new[number % NEW], now - 400 + 2 * number)
    command = ["retokenize", "maintain", "--workdir", str(shop.workdir), *shop.where(1)]
    with subprocess.Popen(
        [sys.executable, "-m", "tesserec.cli", *command, *LOOSE, *LONG],
        env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as run:  # fmt: skip
        began = time.monotonic()
        while not list((shop.workdir / "checkpoints").glob("*/*.json")):
            assert run.poll() is None, "it ended before"
            assert time.monotonic() - began < PATIENCE_S
            assert promoted(shop.workdir) == parent
            time.sleep(0.02)
        run.send_signal(signal.SIGKILL)
    assert promoted(shop.workdir) == parent
    anew = copied(shop.workdir, shop.workdir.with_name("anew"))
    shutil.rmtree(anew / "checkpoints")
    told = []
    for workdir in (shop.workdir, anew):
        done = shop.retokenize("maintain", 1, *LOOSE, *LONG, workdir=workdir)
        assert done.returncode == 0, done.stderr
        told.append(json.loads(done.stdout))
        assert not list((workdir / "checkpoints").glob("*"))
    assert told[0]["release_id"] == told[1]["release_id"] == promoted(shop.workdir)
    assert told[0]["parent"] == parent and told[0]["tuning"]["targets"] > 50
    stock = open_stock(shop.workdir)
    assert verify(stock.folder) == []
    base = grow_codes(stock.paths("codes")[:1])
    np.testing.assert_array_equal(replay(base, read_ledger(stock.paths("ledger"))), stock.codes)


def test_the_pipeline_does_nothing_when_nothing_is_due(shop: Shop) -> None:
    before = promoted(shop.workdir)
    records = shop.pipeline(1)
    assert set(records) - {"report", "freshness"} == {"survey", "decide"}
    assert promoted(shop.workdir) == before and read_history(shop.workdir)[-1]["due"] == "none"


def test_the_pipeline_encodes_when_items_wait(shop: Shop) -> None:
    before = promoted(shop.workdir)
    records = shop.pipeline(2)
    assert {"extend", "judge", "hand_over"} <= set(records) and "maintain" not in records
    stock = open_stock(shop.workdir)
    assert stock.manifest["parent"] == before and stock.manifest["cadence"] == "encode"
    assert [line["cadence"] for line in read_history(shop.workdir)[-2:]] == ["decide", "encode"]


def test_rebuild_is_refused_and_remembered_then_passes_and_is_rolled_back(shop: Shop) -> None:
    parent = promoted(shop.workdir)
    poor = ["retokenization.rebuild.epochs=1", "retokenization.rebuild.learning_rate=0.3"]
    refused = shop.retokenize("rebuild", 2, *poor)
    assert refused.returncode == 3, refused.stdout + refused.stderr
    assert promoted(shop.workdir) == parent
    assert json.loads(refused.stdout)["error"].startswith("judge: the gate says no: ")
    line = read_history(shop.workdir)[-1]
    assert (line["cadence"], line["parent"], line["ok"]) == ("rebuild", parent, False)

    done = shop.retokenize("rebuild", 2, *LOOSE, "retokenization.rebuild.epochs=8")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert promoted(shop.workdir) == told["release_id"] and told["parent"] == parent
    assert told["alignment"]["after"]["digits"] <= told["alignment"]["before"]["digits"]
    stock = open_stock(shop.workdir)
    assert "delta" not in stock.manifest and "aliases" in stock.manifest["parts"]
    loaded = Recommender.load(stock.folder)
    assert isinstance(loaded.decoder._scorer, AliasScorer)
    line = read_history(shop.workdir)[-1]
    assert (line["cadence"], line["release_id"], line["ok"]) == (
        "rebuild",
        told["release_id"],
        True,
    )
    back = tesserec("release", "rollback", "--workdir", str(shop.workdir))
    assert back.returncode == 0, back.stderr
    assert promoted(shop.workdir) == parent
