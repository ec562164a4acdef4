"""`tesserec retokenize encode` killed, doubled and refused, while a real Triton is asked on."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tesserec.data.make import make_shop
from tesserec.errors import TesserecError
from tesserec.release import promoted, read_pointer, rollback
from tesserec.retokenization.stock import open_stock
from tesserec.serving.client import Recommender
from tesserec.serving.status import server_status
from tests.command import ROOT, TINY, environment, tesserec

pytestmark = [pytest.mark.slow, pytest.mark.triton, pytest.mark.timeout(1800)]
NEW = 40  # items a file
PATIENCE_S = 120.0


@dataclass
class Asking:
    """Asks a server without a pause until it is stopped."""

    url: str
    requests: int = 0
    failed: list[str] = field(default_factory=list)
    releases: list[str] = field(default_factory=list)  # in the order in which they answered
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Asking:
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join(timeout=60)

    def _ask(self) -> None:
        with Recommender(self.url, timeout_s=30, retries=0) as client:
            while not self._stop.is_set():
                self.requests += 1
                try:
                    answer = client.recommend(user_id=f"U{self.requests % 300:06d}", k=10)
                except TesserecError as error:
                    self.failed.append(str(error))
                    continue
                if len(answer.item_ids) != 10:
                    self.failed.append(f"{len(answer.item_ids)} items: {answer.reason}")
                if self.releases[-1:] != [answer.release_id]:
                    self.releases.append(answer.release_id)
                time.sleep(0.02)


@dataclass
class Served:
    """A workdir of its own with a running server; `shops[i]` lists i times NEW new items."""

    workdir: Path
    grpc: str
    shops: list[Path]

    def encode(self, shop: int, *more: str) -> subprocess.CompletedProcess[str]:
        where = f"data.path={self.shops[shop]}"
        return tesserec(*self.command(), where, "data.source=tesserec", *more)

    def command(self) -> list[str]:
        return ["retokenize", "encode", "--json", "--workdir", str(self.workdir)]

    def serving(self) -> str:
        return (server_status(self.workdir) or {})["serving"]

    def wait_until_served(self, release: str) -> float:
        began = time.monotonic()
        while self.serving() != release:
            assert time.monotonic() - began < PATIENCE_S, server_status(self.workdir)
            time.sleep(0.05)
        return time.monotonic() - began


@pytest.fixture(scope="module")
def served(
    finished: tuple[Path, dict], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("encode")
    workdir = copied(finished[0], folder / "work")
    sizes = {"users": TINY["data"]["generated_users"], "items": TINY["data"]["generated_items"]}
    shops = []
    for step in range(5):
        shops.append(folder / f"shop-{step}")
        make_shop(shops[-1], **sizes, seed=1, new_items=step * NEW)
    command = [sys.executable, "-m", "tesserec.cli", "serve", "--workdir", str(workdir), "--json"]
    with subprocess.Popen(
        command, env=environment(), cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        info = json.loads(process.stdout.readline())
        yield Served(workdir, info["grpc"], shops)
        process.terminate()
        assert process.wait(timeout=60) == 0


def copied(source: Path, target: Path) -> Path:
    """The other tests of `finished` keep their workdir as it is."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("serving"))
    for path in (target / "feature_store").glob("*.yaml"):
        path.write_text(path.read_text().replace(str(source), str(target)))
    return target


def test_new_items_come_out_while_it_is_asked(served: Served) -> None:
    before = open_stock(served.workdir)
    with Asking(served.grpc) as asking:
        done = served.encode(1)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert served.wait_until_served(told["release_id"]) < PATIENCE_S
        asked = asking.requests
        while asking.requests < asked + 50:
            time.sleep(0.05)
    assert not asking.failed and asking.releases == [before.release_id, told["release_id"]]
    assert told["served"] and told["new_items"] == told["reachable"] == NEW
    after = open_stock(served.workdir)
    assert (after.codes[: len(before.codes)] == before.codes).all()
    new = set(after.item_ids[len(before.codes) :])
    wishes = pq.read_table(served.shops[1] / "wishes.parquet").to_pydict()
    shown = 0
    with Recommender(served.grpc, timeout_s=30) as client:
        users = sorted(set(wishes["user_id"]))[:100]
        for user in users:
            quota = client.recommend(user_id=user, k=10, rules={"quota_new": 1})
            assert new & set(quota.item_ids), user
            shown += bool(new & set(client.recommend(user_id=user, k=10).item_ids))
    assert shown > 0, f"none of {len(users)} users is shown a new item without a quota"


def test_a_withdrawn_new_item_vanishes_and_comes_back(served: Served) -> None:
    item = open_stock(served.workdir).item_ids[-1]
    path = served.workdir / "overlay" / "withdrawn"
    with Recommender(served.grpc, timeout_s=30) as client:

        def shown() -> bool:
            rules = {"allow": [item]}
            return client.recommend(user_id="U000001", k=1, rules=rules).item_ids == [item]

        assert shown()
        path.parent.mkdir(exist_ok=True)
        for text, wanted in ((item, False), ("", True)):
            path.write_text(text)
            began = time.monotonic()
            while shown() != wanted:
                assert time.monotonic() - began < 60
                time.sleep(0.1)


def test_back_to_the_former_release_after_new_events(served: Served) -> None:
    stock = open_stock(served.workdir)
    parent, item = stock.manifest["parent"], stock.item_ids[-1]
    push = ["event", "--user", "U000002", "--item", item, "--workdir", str(served.workdir)]
    assert tesserec(*push).returncode == 0
    with Recommender(served.grpc, timeout_s=30) as client, Asking(served.grpc) as asking:
        rollback(served.workdir)
        assert served.wait_until_served(parent) < 5
        answer = client.recommend(user_id="U000002", k=10)
        assert answer.release_id == parent and len(answer.item_ids) == 10
        assert item not in answer.item_ids
    assert not asking.failed
    again = served.encode(1)
    assert again.returncode == 0 and json.loads(again.stdout)["release_id"] == stock.release_id
    served.wait_until_served(stock.release_id)


# ---- kills ----


def kill_at(served: Served, shop: int, there: Any) -> None:
    """Start the command, wait until something is there, kill -9."""
    command = [sys.executable, "-m", "tesserec.cli", *served.command()]
    command += [f"data.path={served.shops[shop]}", "data.source=tesserec"]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as run:
        began = time.monotonic()
        while not there():
            assert run.poll() is None, "the command ended before"
            assert time.monotonic() - began < PATIENCE_S
            time.sleep(0.002)
        run.send_signal(signal.SIGKILL)


def made(workdir: Path, kind: str) -> set[str]:
    """Finished artefacts and those in the making."""
    return {p.name for p in (workdir / "artifacts").glob(f"{kind}-*")}


def test_killed_in_each_step(served: Served) -> None:
    workdir = served.workdir
    parent = promoted(workdir)
    assert parent is not None
    with Asking(served.grpc) as asking:
        steps: list[tuple[str, Any]] = []
        for kind in (".tmp-survey", "survey", ".tmp-extension", "extension", ".tmp-handover"):
            had = made(workdir, kind)
            steps.append((kind, lambda kind=kind, had=had: made(workdir, kind) - had))
        for name, there in steps:
            kill_at(served, 2, there)
            assert promoted(workdir) == parent, name
            assert served.serving() == parent, name
        kill_at(served, 2, lambda: promoted(workdir) != parent)  # behind the pointer
        release = promoted(workdir)
        assert release is not None
        served.wait_until_served(release)
        done = served.encode(2)
        assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["release_id"] == release and told["served"] and told["new_items"] == 0
    assert not asking.failed and asking.releases == [parent, release]
    stock = open_stock(workdir)
    assert stock.manifest["parent"] == parent
    assert len(stock.item_ids) == TINY["data"]["generated_items"] + 2 * NEW
    assert not list((workdir / "releases").glob(".tmp-*"))


def test_a_killed_run_goes_on_with_the_same_release(served: Served) -> None:
    """The items of a run keep the moment of the survey, so the release is the same."""
    workdir = served.workdir
    parent, had = promoted(workdir), made(workdir, "extension")
    kill_at(served, 3, lambda: made(workdir, "extension") - had)
    (name,) = made(workdir, "extension") - had
    change = json.loads((workdir / "artifacts" / name / "change.json").read_text())
    done = served.encode(3)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["release_id"] == change["release_id"] and told["parent"] == parent
    assert told["new_items"] == NEW and promoted(workdir) == change["release_id"]


# ---- two at once, and a server that says no ----


def test_two_at_once(served: Served) -> None:
    command = [sys.executable, "-m", "tesserec.cli", *served.command()]
    had = made(served.workdir, "survey") | made(served.workdir, ".tmp-survey")
    first = subprocess.Popen(
        [*command, "data.source=tesserec", f"data.path={served.shops[3]}", "data.max_bad_share=.5"],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with first:
        while not (made(served.workdir, "survey") | made(served.workdir, ".tmp-survey")) - had:
            assert first.poll() is None
            time.sleep(0.005)
        first.send_signal(signal.SIGSTOP)
        second = served.encode(3)
        config = served.workdir / "tiny.yaml"
        config.write_text(json.dumps(TINY))
        third = tesserec("run", str(config), "--workdir", str(served.workdir))
        first.send_signal(signal.SIGCONT)
        assert first.wait(timeout=300) == 0
    for done in (second, third):
        assert done.returncode == 1
        assert f"(process {first.pid})" in done.stderr + done.stdout


def test_a_release_that_the_server_refuses(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file is damaged after the rehearsal and before the server reads it."""
    import tesserec.release
    from tesserec.cli.main import main
    from tesserec.release.pointer import pointer_lock, write_pointer

    parent = promoted(served.workdir)
    assert parent is not None

    def damaging(workdir: Path, release_id: str) -> dict[str, Any]:
        (path,) = (workdir / "releases" / release_id / "codes").glob("delta-*.safetensors")
        raw = bytearray(path.read_bytes())
        raw[-1] ^= 1
        path.write_bytes(bytes(raw))
        with pointer_lock(workdir):
            pointer = read_pointer(workdir) or {}
            return write_pointer(workdir, release_id, [*pointer["history"], parent])

    where = [f"data.path={served.shops[4]}", "data.source=tesserec"]
    with monkeypatch.context() as patch, Asking(served.grpc) as asking:
        patch.setattr(tesserec.release, "promote", damaging)
        assert main([*served.command(), *where]) == 3
    assert not asking.failed and asking.releases == [parent]
    pointer = read_pointer(served.workdir) or {}
    assert pointer["release_id"] == parent
    assert "has other bytes than its manifest says" in pointer["withdrawn"]["reason"]
    done = served.encode(4)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["release_id"] == pointer["withdrawn"]["release_id"] and told["served"]
    assert np.isfinite(told["seconds"]["total"])
