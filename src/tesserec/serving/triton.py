"""Start, watch and stop a real Triton server (binary and command line: docs/serving.md)."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tesserec.config import ServeSettings, to_dict
from tesserec.errors import ServingError, UsageError
from tesserec.project import find_project
from tesserec.release.pointer import promoted
from tesserec.serving.environment import ServingEnvironment, find_environment, link_backend
from tesserec.serving.ports import reserve
from tesserec.serving.server_file import read_server_file, remove_server_file, write_server_file

log = logging.getLogger(__name__)
MODEL = "recommend"
ATTEMPTS = 3  # starts, if another program takes a port in between
STOP_S = 15.0  # then the process group is killed
KEEP_LOGS = 10
TAIL_LINES = 15
TAIL_WIDTH = 300
# The server is ours and near: a proxy of the environment (http_proxy) knows nothing of it.
HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))
# How the log tells what model.py raised in `initialize`.
CAUSE = re.compile(r"Failed to initialize Python stub: (?:\w+: )?(.*?)(?:\\n\\nAt:|\"?$)", re.M)
# Runs in a small process of its own: code between fork and exec of a threaded one may deadlock.
# The kernel sends SIGTERM when the parent is gone; getppid tells if it went before prctl.
LAUNCH = """
import ctypes, os, signal, sys
if sys.argv[1] != "0":
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the starting process is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class Plan:
    """What every attempt to start shares."""

    workdir: Path
    environment: ServingEnvironment
    models: Path
    variables: dict[str, str]
    host: str
    ports: tuple[int, ...]
    timeout_s: float
    die_with_parent: bool
    also: tuple[str, ...]


class TritonProcess:
    """A running server; stop it with `stop` or by leaving the `with` block.

    `info` holds `{grpc, http, metrics, pid, release_id, log}`, addresses as host:port.
    """

    def __init__(self, process: subprocess.Popen[bytes], info: dict[str, Any], workdir: Path):
        self.process = process
        self.info = info
        self.seconds_to_ready = 0.0
        self._workdir = workdir

    @property
    def grpc(self) -> str:
        return self.info["grpc"]

    @property
    def log(self) -> Path:
        return Path(self.info["log"])

    def __enter__(self) -> TritonProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def check(self) -> None:
        """Raise if the server is gone.

        Raises:
            ServingError: with its exit code and the end of its log.
        """
        code = self.process.poll()
        if code is not None:
            raise ServingError(_with_tail(f"Triton ended with code {code}", self.log))

    def stop(self) -> None:
        """Ask the server to end, wait, and kill what is left; a second call does nothing."""
        remove_server_file(self._workdir, self.process.pid)
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            log.warning("Triton did not stop within %.0f s; it is killed", STOP_S)
        with suppress(ProcessLookupError):  # the stub, if it survived its server
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def start(
    workdir: Path,
    project: Path | None = None,
    *,
    release: str | None = None,
    host: str = "127.0.0.1",
    ports: Sequence[int] = (0, 0, 0),
    settings: ServeSettings | None = None,
    timeout_s: float = 180.0,
    publish: bool = True,
    die_with_parent: bool = True,
    models: Path | None = None,
    also: Sequence[str] = (),
) -> TritonProcess:
    """Start Triton with the model `recommend` and wait until it is ready.

    Args:
        workdir: the working folder that it serves; logs go to `<workdir>/serving/`.
        project: the folder with `serving/models` and `.venv-serve`; None: found by itself.
        release: serve this one whatever is promoted; None follows the pointer.
        ports: gRPC, HTTP, metrics; 0 takes a free one.
        settings: what the server is told; None: the defaults.
        publish: write `<workdir>/serving/server.json`, by which clients find it.
        die_with_parent: the kernel ends the server when the starting *thread* ends.
        models: another model repository.
        also: models of it to load beside `recommend`.

    Raises:
        UsageError: nothing is promoted, the serving environment is missing, a port is taken.
        ServingError: it didn't become ready; the message ends with the log's last lines.
    """
    workdir, project = workdir.resolve(), find_project(project)
    settings = settings or ServeSettings()
    if release is None and promoted(workdir) is None:
        raise UsageError(
            f"no release is promoted in {workdir}; make one with `tesserec run`, "
            "or promote one with `tesserec release promote ID`"
        )
    environment = find_environment(project)
    models = models or project / "serving" / "models"
    if not (models / MODEL / "config.pbtxt").is_file():
        raise UsageError(f"{models} has no {MODEL}/config.pbtxt; name a tesserec checkout")
    variables = environment.variables() | {
        "TESSEREC_WORKDIR": str(workdir),
        "TESSEREC_RELEASE": release or "",
        "TESSEREC_SETTINGS": json.dumps(to_dict(settings)),
        "OMP_NUM_THREADS": str(settings.threads),
    }
    plan = Plan(
        workdir,
        environment,
        models,
        variables,
        host,
        tuple(ports),
        timeout_s,
        die_with_parent,
        tuple(also),
    )
    server = _start(plan)
    if publish:
        write_server_file(workdir, server.info)
    return server


def point_at(workdir: Path, url: str, *, timeout_s: float = 10.0) -> dict[str, Any]:
    """Use a server that runs already: check that it answers and write `server.json` for clients.

    Raises:
        ServingError: it doesn't answer.
    """
    from tesserec.serving.client import Client

    with Client(url, timeout_s=timeout_s) as client:
        release_id = client.recommend(k=1).release_id
    info = {
        "grpc": url,
        "http": None,
        "metrics": None,
        "pid": None,
        "release_id": release_id,
        "log": None,
    }
    write_server_file(workdir, info)
    return info


def _start(plan: Plan) -> TritonProcess:
    for attempt in range(1, ATTEMPTS + 1):
        log_path = _new_log(plan.workdir)
        try:
            with reserve(plan.host, plan.ports) as bound:
                return _start_once(plan, bound, log_path)
        except OSError as error:
            raise UsageError(f"cannot start Triton: {error}") from None
        except ServingError:
            if attempt == ATTEMPTS or all(plan.ports) or "already in use" not in _text(log_path):
                raise
            log.warning("a port was taken meanwhile; starting again")
    raise AssertionError("the last attempt returned or raised")


def _start_once(plan: Plan, ports: Sequence[int], log_path: Path) -> TritonProcess:
    began = time.monotonic()
    process = _spawn(_command(plan, ports), plan, log_path)
    grpc, http, metrics = (f"{plan.host}:{port}" for port in ports)
    info: dict[str, Any] = {"grpc": grpc, "http": http, "metrics": metrics}
    info |= {"pid": process.pid, "release_id": None, "log": str(log_path)}
    server = TritonProcess(process, info, plan.workdir)
    try:
        _await_ready(server, plan.timeout_s)
        server.check()  # else it was another server that answered at this port
        info["release_id"] = _first_answer(http, log_path)
    except BaseException:
        server.stop()
        raise
    server.seconds_to_ready = time.monotonic() - began
    log.info("Triton is ready after %.1f s: %s", server.seconds_to_ready, info)
    return server


def _command(plan: Plan, ports: Sequence[int]) -> list[str]:
    backends = link_backend(plan.environment, plan.workdir / "serving" / "backends")
    addresses = [
        f"--{name}-{key}={value}"
        for name, port in zip(("grpc", "http", "metrics"), ports, strict=True)
        for key, value in (("address", plan.host), ("port", port))
    ]
    return [
        str(plan.environment.server),
        f"--model-repository={plan.models}",
        f"--backend-directory={backends}",
        *addresses,
        "--model-control-mode=explicit",
        *(f"--load-model={name}" for name in (MODEL, *plan.also)),
        "--disable-auto-complete-config",  # else the model is imported twice
        "--exit-timeout-secs=5",
    ]


def _spawn(command: Sequence[str], plan: Plan, log_path: Path) -> subprocess.Popen[bytes]:
    parent = str(os.getpid()) if plan.die_with_parent else "0"
    with log_path.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", LAUNCH, parent, *command],
            env=plan.variables,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches us, and we stop it in order
        )


def _await_ready(server: TritonProcess, timeout_s: float) -> None:
    url = f"http://{server.info['http']}/v2/models/{MODEL}/ready"
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        code = server.process.poll()
        if code is not None:
            raise ServingError(_with_tail("Triton did not become ready", server.log))
        try:
            with HTTP.open(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):  # not bound yet, or the model is not loaded yet
            time.sleep(0.1)
    raise ServingError(_with_tail(f"Triton was not ready after {timeout_s:.0f} s", server.log))


def _first_answer(http: str, log_path: Path) -> str:
    """Ask for one popular item; returns the release that answered.

    A stub that does not fit its numpy hands over zeros without any error: so look at a real answer.
    """
    strings = {"datatype": "BYTES", "shape": [1, 1], "data": [""]}
    inputs = [{"name": name, **strings} for name in ("user_id", "history", "rules")]
    inputs.append({"name": "k", "datatype": "INT32", "shape": [1, 1], "data": [1]})
    request = urllib.request.Request(
        f"http://{http}/v2/models/{MODEL}/infer", json.dumps({"inputs": inputs}).encode()
    )
    try:
        with HTTP.open(request, timeout=30) as reply:
            outputs = {out["name"]: out["data"] for out in json.load(reply)["outputs"]}
        return str(outputs["release_id"][0])
    except (urllib.error.URLError, OSError, ValueError, LookupError) as error:
        raise ServingError(_with_tail(f"Triton's first answer is bad: {error}", log_path)) from None


def _new_log(workdir: Path) -> Path:
    folder = workdir / "serving"
    folder.mkdir(parents=True, exist_ok=True)
    for old in sorted(folder.glob("triton-*.log"))[: -KEEP_LOGS + 1]:
        if str(old) != _log_in_use(workdir):  # rehearsals beside a long-lived server make many
            old.unlink(missing_ok=True)
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    return folder / f"triton-{now}-{os.getpid()}.log"


def _log_in_use(workdir: Path) -> str | None:
    """The log of the server that runs for this folder."""
    try:
        return read_server_file(workdir)["log"]
    except ServingError:
        return None


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""


def _with_tail(message: str, log_path: Path) -> str:
    """The message, the model's own error if the log has one, and the log's last lines."""
    text = _text(log_path)
    causes = CAUSE.findall(text)
    cause = f": {causes[-1]}" if causes else ""
    lines = [line[:TAIL_WIDTH] for line in text.splitlines() if line.strip(" |+-\t")]
    tail = "\n  ".join(lines[-TAIL_LINES:])
    return f"{message}{cause}\nthe log {log_path} ends with:\n  {tail}"
