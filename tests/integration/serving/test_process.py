"""The server as a process: where it listens, how it ends, and why it did not start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tesserec.errors import ServingError, UsageError
from tesserec.release import promote, promoted, release_folder
from tesserec.serving.client import Recommender
from tesserec.serving.server_file import read_server_file
from tesserec.serving.status import server_status
from tesserec.serving.triton import TritonProcess, start
from tests.fakes.release import tiny_release

pytestmark = pytest.mark.triton
PARENT = """
import sys, time
from pathlib import Path
from tesserec.serving.triton import start
workdir, project, models = map(Path, sys.argv[1:4])
with start(workdir, project, models=models) as server:
    print("ready", server.process.pid, flush=True)
    time.sleep(600)
"""


def children(pid: int) -> set[int]:
    """The process and all below it."""
    found = {pid}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found |= children(int(child))
    return found


def listening(pids: set[int]) -> list[str]:
    """`address:port` in hexadecimal of every listening TCP socket of these processes."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            target = os.readlink(link)
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    rows = []
    for table in ("tcp", "tcp6"):
        lines = Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]
        rows += [line.split() for line in lines]
    return [row[1] for row in rows if row[3] == "0A" and row[9] in inodes]


def gone(pids: set[int], seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.1)
    return False


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def promoted_shop(tmp_path: Path) -> Path:
    workdir = tmp_path / "work"
    promote(workdir, tiny_release(workdir))
    return workdir


def test_it_listens_on_loopback_alone(server: TritonProcess) -> None:
    found = listening(children(server.process.pid))
    assert len(found) == 3
    loopback = ("0100007F:", "0000000000000000FFFF00000100007F:")  # 127.0.0.1, as IPv4 and IPv6
    assert all(address.startswith(loopback) for address in found), found


def test_stopping_leaves_nothing(promoted_shop: Path, project: Path, light_models: Path) -> None:
    with start(promoted_shop, project, models=light_models) as server:
        pids = children(server.process.pid)
        assert len(pids) >= 2, "the server and its stub"
        ports = [int(server.info[name].rpartition(":")[2]) for name in ("grpc", "http", "metrics")]
        assert server.seconds_to_ready > 0
        server.check()
    assert gone(pids, 1)
    with pytest.raises(ServingError):
        read_server_file(promoted_shop)
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert "successfully unloaded" in server.log.read_text(), "it was killed, not stopped"
    server.stop()
    with pytest.raises(ServingError, match="Triton ended with code 0"):
        server.check()


def test_a_proxy_of_the_environment_is_not_asked(
    promoted_shop: Path, project: Path, light_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    with (
        start(promoted_shop, project, models=light_models) as server,
        Recommender(server.grpc, timeout_s=10) as client,
    ):
        assert client.recommend(history=["I001"]).source == "model"


def test_kill_of_the_parent_leaves_no_server(
    promoted_shop: Path, project: Path, light_models: Path
) -> None:
    arguments = [sys.executable, "-c", PARENT, promoted_shop, project, light_models]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline().split()[1])
        pids = children(pid)
        assert len(pids) >= 2
        parent.send_signal(signal.SIGKILL)
    assert gone(pids)
    with pytest.raises(ServingError, match="is gone"):  # server.json is still there, and stale
        read_server_file(promoted_shop)


def test_kill_of_the_parent_while_it_starts(
    promoted_shop: Path, project: Path, light_models: Path
) -> None:
    arguments = [sys.executable, "-c", PARENT, promoted_shop, project, light_models]
    with subprocess.Popen(arguments) as parent:
        pids: set[int] = set()
        while len(pids) < 3:  # the parent, the server, its stub
            pids = children(parent.pid)
            time.sleep(0.01)
        parent.send_signal(signal.SIGKILL)
    assert gone(pids - {parent.pid}, 30)


def test_wrong_bytes_are_not_served(promoted_shop: Path, project: Path) -> None:
    """Also with the real model.py: the hashes are looked at before Feast is imported."""
    release = tiny_release(promoted_shop)
    path = release_folder(promoted_shop, release) / "models" / "rpg" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ServingError) as caught:
        start(promoted_shop, project)
    first = str(caught.value).splitlines()[0]
    assert "Triton did not become ready" in first
    assert f"release {release} is damaged: models/rpg/model.safetensors has other bytes" in first
    assert str(promoted_shop / "serving") in str(caught.value), "the log is named"


def test_a_damaged_promoted_release_falls_back(
    promoted_shop: Path, project: Path, light_models: Path
) -> None:
    first = promoted(promoted_shop)
    second = tiny_release(promoted_shop, seed=2)
    promote(promoted_shop, second)
    path = release_folder(promoted_shop, second) / "models" / "rpg" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with (
        start(promoted_shop, project, models=light_models) as server,
        Recommender(server.grpc, timeout_s=10) as client,
    ):
        assert server.info["release_id"] == first == client.recommend(user_id="U1").release_id
        assert f"RELEASE {second} IS PROMOTED AND NO GOOD" in server.log.read_text()
        status = server_status(promoted_shop)
        assert status and status["instead_of"] == second
        time.sleep(3)  # the server is told of numbers once a second
        url = f"http://{server.info['metrics']}/metrics"
        with urllib.request.urlopen(url, timeout=10) as reply:
            assert "\ntesserec_fallback 1" in reply.read().decode()


def test_a_registry_without_the_schema_is_not_served(shop: Any, project: Path) -> None:
    other = tiny_release(shop.workdir, seed=9)  # its schema hash is none of this registry
    with pytest.raises(ServingError, match="needs feature service recommend_v1 with schema feed"):
        start(shop.workdir, project, release=other, publish=False)


def test_a_taken_port_is_refused(promoted_shop: Path, project: Path, light_models: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} of 127.0.0.1"):
            start(promoted_shop, project, ports=(port, 0, 0), models=light_models)
