"""A real server that is killed, and its supervisor."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tesserec.errors import ServingError
from tesserec.release import promote
from tesserec.serving.client import Recommender
from tesserec.serving.orphan import dead_stubs
from tesserec.serving.server_file import read_server_file
from tesserec.serving.server_log import SHARED, shared_memory_of
from tests.fakes.release import tiny_release
from tests.integration.serving.test_process import children, gone

pytestmark = [pytest.mark.triton, pytest.mark.slow]
CALLERS = 4
BACK_S = 90.0  # a start takes some 6 s on an idle core
PARENT = """
import json, signal, sys, threading
from pathlib import Path
from tesserec.serving import triton
from tesserec.serving.supervisor import supervise
workdir, project, models = map(Path, sys.argv[1:4])
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
def begin(ports, restarts):
    return triton.start(
        workdir, project, models=models, ports=ports, restarts=restarts, stop=stop
    )
def ready(server):
    print(json.dumps(server.info), flush=True)
supervise(begin, [("127.0.0.1", 0)] * 3, stop, ready)
"""


class Callers:
    """Clients in threads that ask without a pause, and what came of it."""

    def __init__(self, url: str) -> None:
        self.answers, self.errors, self._stop = 0, Counter[str](), False
        self._client = Recommender(url, timeout_s=5, retries=2)
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CALLERS)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        while not self._stop:
            try:
                self._client.recommend(user_id="U1")
                with self._lock:
                    self.answers += 1
            except ServingError as error:
                with self._lock:
                    self.errors[str(error).partition(" ")[2][:60]] += 1
                time.sleep(0.05)

    def wait_for_more(self, seconds: float) -> float:
        """Seconds until there are 20 more answers."""
        began, before = time.monotonic(), self.answers
        while self.answers < before + 20:
            assert time.monotonic() - began < seconds, self.errors
            time.sleep(0.02)
        return time.monotonic() - began

    def close(self) -> None:
        self._stop = True
        for thread in self._threads:
            thread.join(20)
        self._client.close()


@pytest.fixture
def supervised(
    tmp_path: Path, project: Path, light_models: Path
) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any], Path]]:
    workdir = tmp_path / "work"
    promote(workdir, tiny_release(workdir))
    words = [sys.executable, "-c", PARENT, str(workdir), str(project), str(light_models)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        yield parent, json.loads(parent.stdout.readline()), workdir
        parent.kill()


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def restarts(info: dict[str, Any]) -> str:
    with urllib.request.urlopen(f"http://{info['metrics']}/metrics", timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    return next(line for line in lines if line.startswith("tesserec_server_restarts_total"))


def test_requests_go_on_after_the_server_and_then_its_stub_are_killed(
    supervised: tuple[subprocess.Popen[str], dict[str, Any], Path],
) -> None:
    parent, first, workdir = supervised
    callers = Callers(first["grpc"])
    try:
        callers.wait_for_more(60)
        old = children(first["pid"])
        assert list(SHARED.glob(shared_memory_of(Path(first["log"])) + "*"))
        os.kill(first["pid"], signal.SIGKILL)
        time.sleep(0.2)  # answers that were under way are in
        callers.wait_for_more(BACK_S)
        assert gone(old, 1), "a stub of the dead server lives"
        # written, and told, a moment after the first answers
        wait(lambda: read_server_file(workdir)["restarts"] == 1)
        second = read_server_file(workdir)
        assert second["pid"] != first["pid"]
        assert [second[n] for n in ("grpc", "http", "metrics")] == [
            first[n] for n in ("grpc", "http", "metrics")
        ]
        wait(lambda: float(restarts(second).split()[-1]) == 1)

        (stub,) = children(second["pid"]) - {second["pid"]}
        os.kill(stub, signal.SIGKILL)
        while not dead_stubs(second["pid"]):
            time.sleep(0.001)
        callers.wait_for_more(BACK_S)
        wait(lambda: read_server_file(workdir)["restarts"] == 2)
    finally:
        callers.close()
    third = children(parent.pid) - {parent.pid}
    parent.terminate()
    assert parent.wait(30) == 0
    assert gone(third, 1)
    with pytest.raises(ServingError, match="no server runs"):
        read_server_file(workdir)
    assert not [p for p in SHARED.iterdir() if f"-{parent.pid}_" in p.name]


def test_it_can_be_stopped_while_it_starts_again(
    supervised: tuple[subprocess.Popen[str], dict[str, Any], Path],
) -> None:
    parent, info, workdir = supervised
    os.kill(info["pid"], signal.SIGKILL)
    while len(below := children(parent.pid) - {parent.pid, info["pid"]}) < 1:
        time.sleep(0.01)
    parent.terminate()
    assert parent.wait(30) == 0
    assert gone(below, 1)
    with pytest.raises(ServingError, match="no server runs"):
        read_server_file(workdir)
