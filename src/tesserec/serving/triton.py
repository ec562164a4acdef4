"""Start, watch and stop a real Triton server (binary and command line: docs/serving.md)."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tesserec.config import ServeSettings
from tesserec.errors import ServingError, UsageError
from tesserec.project import find_project
from tesserec.release.pointer import promoted
from tesserec.serving.command import Plan, command, spawn
from tesserec.serving.environment import find_environment
from tesserec.serving.orphan import dead_stubs
from tesserec.serving.ports import reserve
from tesserec.serving.repository import MODEL, write_repository
from tesserec.serving.server_file import remove_server_file, write_server_file
from tesserec.serving.server_log import (
    drop_shared_memory,
    models_beside,
    new_log,
    text_of,
    with_tail,
)

log = logging.getLogger(__name__)
ATTEMPTS = 3  # starts, if another program takes a port in between
STOP_S = 15.0  # then the process group is killed
LOOPBACK = "127.0.0.1"
# The server is ours and near: a proxy of the environment (http_proxy) knows nothing of it.
HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Stopped(ServingError):
    """The start was given up, as it was told to."""


class TritonProcess:
    """A running server; stop it with `stop` or by leaving the `with` block.

    `info` holds `{grpc, http, metrics, pid, release_id, log, limits, tls, supervisor, restarts}`,
    addresses as host:port; `supervisor` is the process that starts it again, null if none does.
    """

    def __init__(self, process: subprocess.Popen[bytes], info: dict[str, Any], workdir: Path):
        self.process = process
        self.info = info
        self.seconds_to_ready = 0.0
        self.workdir = workdir

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
        """Raise if the server is gone, or its model's process.

        Raises:
            ServingError: with its exit code and the end of its log.
        """
        code = self.process.poll()
        if code is not None:
            raise ServingError(with_tail(f"Triton ended with code {code}", self.log))
        stubs = dead_stubs(self.process.pid)
        if stubs:
            told = f"the model's process {stubs[0]} was killed, or it crashed"
            raise ServingError(with_tail(told, self.log))

    def stop(self) -> None:
        """Ask the server to end, wait, and kill what is left; a second call does nothing."""
        remove_server_file(self.workdir, self.process.pid)
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            log.warning("Triton did not stop within %.0f s; it is killed", STOP_S)
        self.end()

    def end(self) -> None:
        """Kill what is left of it, and clear up; `server.json` goes on to name it."""
        with suppress(ProcessLookupError):  # the stub, if it survived its server
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(models_beside(self.log), ignore_errors=True)
        drop_shared_memory(self.log)


def start(
    workdir: Path,
    project: Path | None = None,
    *,
    release: str | None = None,
    host: str = LOOPBACK,
    http_host: str | None = None,
    metrics_host: str | None = None,
    ports: Sequence[int] = (0, 0, 0),
    settings: ServeSettings | None = None,
    timeout_s: float = 180.0,
    publish: bool = True,
    die_with_parent: bool = True,
    models: Path | None = None,
    also: Sequence[str] = (),
    restarts: int | None = None,
    stop: threading.Event | None = None,
) -> TritonProcess:
    """Start Triton with the model `recommend` and wait until it is ready.

    Args:
        workdir: the working folder that it serves; logs go to `<workdir>/serving/`.
        project: the folder with `serving/models` and `.venv-serve`; None: found by itself.
        release: serve this one whatever is promoted; None follows the pointer.
        host: address of gRPC, and of the two others unless they have their own. With TLS, HTTP
            (which has none) stays on loopback.
        ports: gRPC, HTTP, metrics; 0 takes a free one.
        settings: what the server is told; None: the defaults.
        publish: write `<workdir>/serving/server.json`, by which clients find it.
        die_with_parent: the kernel ends the server when the starting *thread* ends.
        models: another model repository.
        also: models of it to load beside `recommend`.
        restarts: how often it was started again by `tesserec.serving.supervisor`; None: it isn't.
        stop: when it is set, the start is given up.

    Raises:
        Stopped: as `stop` was set.
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
    grpc, http, metrics = ports
    plan = Plan(
        workdir=workdir,
        environment=environment,
        models=models,
        release=release,
        settings=settings,
        hosts=hosts_of(settings, host, http_host, metrics_host),
        ports=(grpc, http, metrics),
        timeout_s=timeout_s,
        die_with_parent=die_with_parent,
        also=tuple(also),
        restarts=restarts,
        stop=stop or threading.Event(),
    )
    server = _start(plan)
    if publish:
        write_server_file(workdir, server.info)
    return server


def hosts_of(
    settings: ServeSettings, host: str, http_host: str | None, metrics_host: str | None
) -> tuple[str, str, str]:
    """The addresses of gRPC, HTTP and metrics (see `start`)."""
    near = LOOPBACK if settings.tls.cert else host
    return host, http_host or near, metrics_host or host


def point_at(workdir: Path, url: str, *, timeout_s: float = 10.0) -> dict[str, Any]:
    """Use a server that runs already: check that it answers and write `server.json` for clients.

    Raises:
        ServingError: it doesn't answer.
    """
    from tesserec.serving.client import Recommender

    with Recommender(url, timeout_s=timeout_s) as client:
        release_id = client.recommend(k=1).release_id
    names = ("http", "metrics", "pid", "log", "limits", "tls", "supervisor")
    unknown = dict.fromkeys(names)
    info = {"grpc": url, **unknown, "release_id": release_id}
    write_server_file(workdir, info)
    return info


def _start(plan: Plan) -> TritonProcess:
    for attempt in range(1, ATTEMPTS + 1):
        log_path = new_log(plan.workdir)
        try:
            with reserve(plan.wishes()) as bound:
                return _start_once(plan, bound, log_path)
        except OSError as error:
            raise UsageError(f"cannot start Triton: {error}") from None
        except Stopped:
            raise
        except ServingError:
            if attempt == ATTEMPTS or all(plan.ports) or "already in use" not in text_of(log_path):
                raise
            log.warning("a port was taken meanwhile; starting again")
    raise AssertionError("the last attempt returned or raised")


def _start_once(plan: Plan, ports: Sequence[int], log_path: Path) -> TritonProcess:
    began = time.monotonic()
    models = write_repository(plan.models, models_beside(log_path), plan.settings.limits)
    process = spawn(command(plan, models, ports, log_path), plan, log_path)
    grpc, http, metrics = (f"{h}:{port}" for h, port in zip(plan.hosts, ports, strict=True))
    info: dict[str, Any] = {"grpc": grpc, "http": http, "metrics": metrics}
    info |= {"pid": process.pid, "release_id": None, "log": str(log_path)}
    info |= {"limits": limits_of(plan.settings), "tls": _told(plan.settings)}
    supervisor = None if plan.restarts is None else os.getpid()
    info |= {"supervisor": supervisor, "restarts": plan.restarts or 0}
    server = TritonProcess(process, info, plan.workdir)
    try:
        _await_ready(server, plan.timeout_s, plan.stop)
        server.check()  # else it was another server that answered at this port
        info["release_id"] = _first_answer(http, plan.password, log_path)
    except BaseException:
        server.stop()
        raise
    server.seconds_to_ready = time.monotonic() - began
    log.info("Triton is ready after %.1f s: %s", server.seconds_to_ready, info)
    return server


def limits_of(settings: ServeSettings) -> dict[str, float]:
    """The limits in force."""
    return {**asdict(settings.limits), "features_ms": settings.features.budget_ms}


def _told(settings: ServeSettings) -> dict[str, Any] | None:
    """What clients on this machine are told of TLS: whom to trust, and if they must show theirs."""
    tls = settings.tls
    return (
        {"ca": str(Path(tls.cert).resolve()), "mutual": bool(tls.client_ca)} if tls.cert else None
    )


def _await_ready(server: TritonProcess, timeout_s: float, stop: threading.Event) -> None:
    url = f"http://{server.info['http']}/v2/models/{MODEL}/ready"
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        code = server.process.poll()
        if code is not None:
            raise ServingError(with_tail("Triton did not become ready", server.log))
        try:
            with HTTP.open(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):  # not bound yet, or the model is not loaded yet
            if stop.wait(0.1):
                raise Stopped("told to stop while Triton was starting") from None
    raise ServingError(with_tail(f"Triton was not ready after {timeout_s:.0f} s", server.log))


def _first_answer(http: str, password: str, log_path: Path) -> str:
    """Ask for one popular item; returns the release that answered.

    A stub that does not fit its numpy hands over zeros without any error: so look at a real answer.
    By HTTP, as gRPC may ask for a client's certificate.
    """
    strings = {"datatype": "BYTES", "shape": [1, 1], "data": [""]}
    inputs = [{"name": name, **strings} for name in ("user_id", "history", "rules")]
    inputs.append({"name": "k", "datatype": "INT32", "shape": [1, 1], "data": [1]})
    request = urllib.request.Request(
        f"http://{http}/v2/models/{MODEL}/infer",
        json.dumps({"inputs": inputs}).encode(),
        {"starter": password},
    )
    try:
        with HTTP.open(request, timeout=30) as reply:
            outputs = {out["name"]: out["data"] for out in json.load(reply)["outputs"]}
        return str(outputs["release_id"][0])
    except (urllib.error.URLError, OSError, ValueError, LookupError) as error:
        raise ServingError(with_tail(f"Triton's first answer is bad: {error}", log_path)) from None
