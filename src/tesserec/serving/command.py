"""The command line and the process environment of a Triton server."""

from __future__ import annotations

import json
import os
import secrets
import ssl
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tesserec.config import ServeSettings, TLSSettings, to_dict
from tesserec.errors import UsageError
from tesserec.serving.environment import ServingEnvironment, link_backend
from tesserec.serving.repository import MODEL
from tesserec.serving.server_log import shared_memory_of
from tesserec.serving.tracing import trace_flags

# What would change the server or have it read memory by name: for nobody.
LOCKED = "model-repository,shared-memory,trace,logging"
PING_MS = 10_000  # clients may ping so often (Triton's own default is 5 minutes)
# glibc: threads share two heaps, instead of sixteen that each grow to the largest messages, which
# themselves are mapped and given back. The model's process takes the thresholds back
# (`tesserec.serving.heap`): they would map the decoder's blocks anew for each batch.
MEMORY = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(64 << 10),
    "MALLOC_TRIM_THRESHOLD_": str(128 << 10),
}
# Runs in a small process of its own: code between fork and exec of a threaded one may deadlock.
# The kernel sends SIGTERM when the parent is gone; getppid tells if it went before prctl.
# The size of files binds the shared memory, which is one; Python ignores the signal for it, and
# what it starts inherits that.
LAUNCH = """
import ctypes, os, resource, signal, sys
parent, size = int(sys.argv[1]), int(sys.argv[2])
if parent:
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the starting process is gone")
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
if hard == resource.RLIM_INFINITY or size < hard:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
os.execv(sys.argv[3], sys.argv[3:])
"""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What every attempt to start shares."""

    workdir: Path
    environment: ServingEnvironment
    models: Path
    release: str | None
    settings: ServeSettings
    hosts: tuple[str, str, str]  # gRPC, HTTP, metrics
    ports: tuple[int, int, int]
    timeout_s: float
    die_with_parent: bool
    also: tuple[str, ...] = ()
    restarts: int | None = None  # how often it was started again; None: nobody would
    stop: threading.Event = field(default_factory=threading.Event)  # set: give the start up
    # HTTP has no TLS, and its parser of JSON is no match for hostile bodies: the starter alone
    # may infer by it, with a word that it makes up anew.
    password: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    def wishes(self) -> list[tuple[str, int]]:
        return list(zip(self.hosts, self.ports, strict=True))

    def variables(self) -> dict[str, str]:
        """The process environment of the server and of its model."""
        return self.environment.variables() | {
            "TESSEREC_WORKDIR": str(self.workdir),
            "TESSEREC_RELEASE": self.release or "",
            "TESSEREC_RESTARTS": str(self.restarts or 0),
            "TESSEREC_SETTINGS": json.dumps(to_dict(self.settings)),
            "OMP_NUM_THREADS": str(self.settings.threads),
            **MEMORY,
        }


def command(plan: Plan, models: Path, ports: Sequence[int], log_path: Path) -> list[str]:
    """The server's command line for these ports (gRPC, HTTP, metrics)."""
    backends = link_backend(plan.environment, plan.workdir / "serving" / "backends")
    names = ("grpc", "http", "metrics")
    addresses = [
        f"--{name}-{key}={value}"
        for name, host, port in zip(names, plan.hosts, ports, strict=True)
        for key, value in (("address", host), ("port", port))
    ]
    return [
        str(plan.environment.server),
        f"--model-repository={models}",
        f"--backend-directory={backends}",
        f"--backend-config=python,shm-region-prefix-name={shared_memory_of(log_path)}",
        *addresses,
        *_restrictions(plan.password),
        *_tls(plan.settings.tls),
        *trace_flags(plan.settings.trace),
        # Else the memory of the largest messages is kept for the next ones.
        "--grpc-infer-allocation-pool-size=0",
        f"--grpc-http2-min-recv-ping-interval-without-data={PING_MS}",
        "--grpc-keepalive-permit-without-calls=1",
        "--model-control-mode=explicit",
        *(f"--load-model={name}" for name in (MODEL, *plan.also)),
        "--disable-auto-complete-config",  # else the model is imported twice
        "--exit-timeout-secs=5",
    ]


def spawn(words: Sequence[str], plan: Plan, log_path: Path) -> subprocess.Popen[bytes]:
    """Start it, in a session of its own, with its output in the log."""
    parent = str(os.getpid()) if plan.die_with_parent else "0"
    size = str(plan.settings.limits.shm_mib << 20)
    with log_path.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", LAUNCH, parent, size, *words],
            env=plan.variables(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches us, and we stop it in order
        )


def _restrictions(password: str) -> list[str]:
    """Triton's locks. The command line is no secret (`ps`), so the first key can't be sent at all:
    a header holds no line break."""
    nobody = f"nobody={secrets.token_hex(16)}\n"
    return [
        f"--grpc-restricted-protocol={LOCKED}:{nobody}",
        f"--http-restricted-api={LOCKED}:{nobody}",
        f"--http-restricted-api=inference:starter={password}",
    ]


def _tls(tls: TLSSettings) -> list[str]:
    if not tls.cert:
        return []
    _check_tls(tls)
    flags = ["--grpc-use-ssl=true"]
    flags += [f"--grpc-server-cert={_file(tls.cert)}", f"--grpc-server-key={_file(tls.key)}"]
    if tls.client_ca:
        flags += ["--grpc-use-ssl-mutual=true", f"--grpc-root-cert={_file(tls.client_ca)}"]
    return flags


def _check_tls(tls: TLSSettings) -> None:
    """What Triton would say in the middle of its log, after its whole start.

    Raises:
        UsageError: a file isn't there, is no PEM file, or the key is another certificate's.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(_file(tls.cert), _file(tls.key))
    except (ssl.SSLError, OSError) as error:
        raise UsageError(
            f"tls.cert {tls.cert} and tls.key {tls.key} are no certificate with its key: {error}"
        ) from None
    if tls.client_ca:
        try:
            context.load_verify_locations(_file(tls.client_ca))
        except (ssl.SSLError, OSError) as error:
            raise UsageError(f"tls.client_ca {tls.client_ca} is no certificate: {error}") from None


def _file(name: str) -> Path:
    path = Path(name).resolve()
    if not path.is_file():
        raise UsageError(f"tls: there is no file {path}; name a PEM file")
    return path
