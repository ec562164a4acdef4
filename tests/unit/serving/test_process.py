"""Ports, the serving environment and the server file, without a server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tesserec.errors import ServingError, UsageError
from tesserec.serving import server_log, triton
from tesserec.serving.environment import find_environment
from tesserec.serving.ports import reserve
from tesserec.serving.server_file import (
    read_server_file,
    remove_server_file,
    write_server_file,
)

PROJECT = Path(__file__).parents[3]
ANY = ("127.0.0.1", 0)


def test_reserved_ports_are_free_for_the_server_alone() -> None:
    with reserve([ANY] * 3) as first, reserve([ANY] * 20) as second:
        assert len({*first, *second}) == 23
        for port in first:
            with socket.socket() as server:  # as Triton's three listeners do
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                server.bind(("127.0.0.1", port))
                server.listen()


def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port}"), reserve([("127.0.0.1", port)]):
            pass


def test_a_missing_environment_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TESSEREC_SERVE_ENV", raising=False)
    with pytest.raises(UsageError, match=r"no serving environment .*\.venv-serve.*make install"):
        find_environment(tmp_path)
    monkeypatch.setenv("TESSEREC_SERVE_ENV", str(tmp_path / "other"))
    with pytest.raises(UsageError, match="other"):
        find_environment(tmp_path)


def test_an_environment_without_a_server_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.setenv("TESSEREC_SERVE_ENV", str(tmp_path))
    with pytest.raises(ServingError, match="make install"):
        find_environment(tmp_path)


def test_start_needs_a_promoted_release(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no release is promoted"):
        triton.start(tmp_path, PROJECT)


def test_the_server_file_names_a_living_server(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="tesserec serve"):
        read_server_file(tmp_path)
    info = {"grpc": "127.0.0.1:1", "pid": os.getpid()}  # alive, but not a Triton
    write_server_file(tmp_path, info)
    with pytest.raises(ServingError, match="is gone"):
        read_server_file(tmp_path)
    write_server_file(tmp_path, info | {"pid": None})  # a server elsewhere
    assert read_server_file(tmp_path)["grpc"] == "127.0.0.1:1"
    remove_server_file(tmp_path, 7)
    assert read_server_file(tmp_path)
    remove_server_file(tmp_path, None)
    remove_server_file(tmp_path, None)
    with pytest.raises(ServingError):
        read_server_file(tmp_path)


def test_old_logs_are_deleted_and_the_cause_comes_first(tmp_path: Path) -> None:
    last = tmp_path
    for _ in range(15):
        last = server_log.new_log(tmp_path)
        last.write_text("")
    assert len(list((tmp_path / "serving").glob("*.log"))) == server_log.KEEP_LOGS
    write_server_file(tmp_path, {"grpc": "h:1", "pid": None, "log": str(last)})
    for _ in range(15):
        server_log.new_log(tmp_path).write_text("")
    assert last.exists(), "a running server's log was deleted"
    path = tmp_path / "x.log"
    path.write_text(
        'a\n\nI1 pb_stub.cc:366] "Failed to initialize Python stub: ServingError: no registry'
        + r"\n\nAt:\n /x.py"
        + '"\n+-----+\nb\n'
    )
    message = server_log.with_tail("not ready", path)
    assert message.startswith("not ready: no registry\n")
    assert message.endswith("  b")


def test_importing_the_client_side_is_light() -> None:
    code = (
        "import sys, tesserec.serving.client, tesserec.serving.triton, tesserec.release;"
        "heavy = {'torch', 'feast', 'pandas', 'tritonclient', 'pyarrow'} & sys.modules.keys();"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
