"""`tesserec serve`: Triton with the promoted release, until it is told to stop."""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path

from tesserec.cli.main import common
from tesserec.cli.output import Output
from tesserec.errors import ServingError
from tesserec.project import find_project

EXAMPLES = """examples:
  tesserec serve
  tesserec serve --grpc-port 8001 --http-port 8000 --metrics-port 8002
  tesserec serve --url 10.0.0.7:8001       use a server that runs already
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", help="gRPC address of a running server to use instead")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (default: loopback)")
    for name in ("grpc", "http", "metrics"):
        parser.add_argument(f"--{name}-port", type=int, default=0, help="default: a free one")
    common(parser, project=True)


def execute(options: argparse.Namespace, out: Output) -> int:
    from tesserec.serving import triton

    workdir = options.workdir.resolve()
    _refuse_a_second(workdir)
    if options.url:
        result = triton.point_at(workdir, options.url)
        out.result(result)
        out.line(f"{options.url} is ready with release {result['release_id']}")
        return 0
    project = find_project(options.project)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    ports = (options.grpc_port, options.http_port, options.metrics_port)
    with triton.start(workdir, project, host=options.host, ports=ports) as server:
        out.result(server.info)
        out.line(
            f"serving release {server.info['release_id']} at {server.info['grpc']} (gRPC); "
            f"log: {server.info['log']}; stop with Ctrl-C"
        )
        while not stop.wait(0.5):
            server.check()
    out.note("stopped")
    return 0


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
