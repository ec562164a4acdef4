"""Faults of a feature store, made on purpose: a Redis that dies, a slow network, a locked file."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

# Locks what SQLite's readers lock (in WAL mode: bytes 120 to 127 of the -shm file), as a process
# that recovers the log does. Its own process: such locks are one process's.
LOCK_OUT = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    fcntl.lockf(file, fcntl.LOCK_EX, 8, 120)
    print("locked", flush=True)
    sys.stdin.read()
"""
WRITE = """
import sqlite3, sys
store = sqlite3.connect(sys.argv[1], isolation_level=None)
store.execute("PRAGMA journal_mode=WAL")
store.execute("BEGIN EXCLUSIVE")
store.execute("CREATE TABLE unwanted (x)")
print("locked", flush=True)
sys.stdin.read()
store.execute("ROLLBACK")
"""


class Redis:
    """A Redis of our own on a free port of the loopback, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise FileNotFoundError("redis-server is not installed")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._command = [program, "--port", str(self.port), "--bind", "127.0.0.1"]
        self._command += ["--save", "", "--dir", str(folder)]
        self.start()

    def start(self) -> None:
        """Start, with what `save` left; returns once it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(self._at, 1) as probe:
                probe.sendall(b"PING\r\n")
                if probe.recv(64).startswith(b"+PONG"):
                    return
            time.sleep(0.05)
        raise TimeoutError("redis-server did not start within 10 s")

    def command(self, *words: str) -> None:
        with socket.create_connection(self._at, 10) as to:
            to.sendall(" ".join(words).encode() + b"\r\n")
            to.recv(64)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)

    @property
    def _at(self) -> tuple[str, int]:
        return "127.0.0.1", self.port


class SlowProxy:
    """Stands before a TCP server of the loopback; hands over its answers `delay_s` later."""

    def __init__(self, port: int) -> None:
        self.delay_s = 0.0
        self._to = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(self._to, 5)
                    far.settimeout(None)
                except OSError:
                    near.close()
                    continue
                for way in ((near, far, False), (far, near, True)):
                    threading.Thread(target=self._pass, args=way, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, slow: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if slow and self.delay_s:
                    time.sleep(self.delay_s)
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextlib.contextmanager
def locked(script: str, path: Path) -> Iterator[None]:
    """Another process holds a lock on this file."""
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin and holder.stdout
        if holder.stdout.readline().strip() != b"locked":
            raise RuntimeError(f"{path} could not be locked")
        try:
            yield
        finally:
            holder.stdin.close()
            holder.wait(10)
