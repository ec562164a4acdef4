"""`tesserec serve`: Triton with the promoted release, until it is told to stop."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesserec.cli.main import common
from tesserec.cli.output import Output
from tesserec.errors import ServingError, UsageError
from tesserec.project import find_project
from tesserec.release.pointer import promoted

if TYPE_CHECKING:
    from tesserec.config import ServeSettings
    from tesserec.serving import triton

EXAMPLES = """examples:
  tesserec serve
  tesserec serve serve.yaml features.budget_ms=50
  tesserec serve --grpc-port 8001 --http-port 8000 --metrics-port 8002
  tesserec serve tls.cert=server.pem tls.key=server.key tls.client_ca=clients.pem
  tesserec serve --url 10.0.0.7:8001       use a server that runs already
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "settings",
        nargs="*",
        metavar="SERVE.yaml | a.b=1",
        help="a YAML of settings and single ones on top of it (docs/serving.md)",
    )
    parser.add_argument("--url", help="gRPC address of a running server to use instead")
    parser.add_argument("--host", default="127.0.0.1", help="address of gRPC (default: loopback)")
    parser.add_argument("--http-host", help="of HTTP (default: --host; with TLS: loopback)")
    parser.add_argument("--metrics-host", help="of the metrics (default: --host)")
    for name in ("grpc", "http", "metrics"):
        parser.add_argument(f"--{name}-port", type=int, default=0, help="default: a free one")
    common(parser, project=True)


def execute(options: argparse.Namespace, out: Output) -> int:
    from tesserec.locks import exclusive
    from tesserec.serving import triton
    from tesserec.serving.supervisor import supervise

    workdir = options.workdir.resolve()
    _refuse_a_second(workdir)
    if options.url:
        result = triton.point_at(workdir, options.url)
        out.result(result)
        out.line(f"{options.url} is ready with release {result['release_id']}")
        return 0
    settings = _settings(options.settings)
    project = find_project(options.project)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    ports = (options.grpc_port, options.http_port, options.metrics_port)
    _check_ports(ports)
    hosts = triton.hosts_of(settings, options.host, options.http_host, options.metrics_host)

    def begin(ports: Sequence[int], restarts: int) -> triton.TritonProcess:
        grpc, http, metrics = hosts
        return triton.start(
            workdir,
            project,
            host=grpc,
            http_host=http,
            metrics_host=metrics,
            ports=ports,
            settings=settings,
            restarts=restarts,
            stop=stop,
        )

    with exclusive(workdir / "serving" / ".serve.lock", busy=f"another serves {workdir}"):
        supervise(begin, list(zip(hosts, ports, strict=True)), stop, partial(_tell, out))
    out.note("stopped")
    return 0


def _tell(out: Output, server: triton.TritonProcess) -> None:
    out.result(server.info)
    out.line(
        f"serving release {server.info['release_id']} at {server.info['grpc']} (gRPC); "
        f"metrics: http://{server.info['metrics']}/metrics; log: {server.info['log']}; "
        "stop with Ctrl-C"
    )
    wanted = promoted(server.workdir)
    if wanted != server.info["release_id"]:
        out.note(f"WARNING: release {wanted} is promoted, and can't be served; see the log")
    limits = ", ".join(f"{name} {value:g}" for name, value in server.info["limits"].items())
    out.note(f"limits: {limits}; gRPC {_security(server.info['tls'])}")


def _check_ports(ports: Sequence[int]) -> None:
    named = [port for port in ports if port]
    for port in named:
        if not 0 < port < 65_536:
            raise UsageError(f"port {port} is none; use 1 to 65535, or 0 for a free one")
    if len(set(named)) < len(named):
        raise UsageError(f"ports {', '.join(map(str, named))}: each service needs one of its own")


def _settings(words: Sequence[str]) -> ServeSettings:
    """The file, if the first word is none of the form a.b=1, and what follows it."""
    from tesserec.config import load_serve_settings

    file = Path(words[0]) if words and "=" not in words[0] else None
    return load_serve_settings(file, words[1:] if file else words)


def _security(tls: dict[str, Any] | None) -> str:
    if not tls:
        return "without TLS"
    return "with TLS, certificates of clients are asked for" if tls["mutual"] else "with TLS"


def _refuse_a_second(workdir: Path) -> None:
    """Two servers of one workdir would take server.json, by which clients find them, in turns."""
    from tesserec.serving.server_file import read_server_file

    try:
        running = read_server_file(workdir)
    except ServingError:
        return
    if running["pid"] is not None:
        raise ServingError(
            f"a server runs for {workdir} already: process {running['pid']}, gRPC "
            f"{running['grpc']}; it follows promotions by itself, stop it before you start another"
        )
