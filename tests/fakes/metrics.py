"""Reads the metrics endpoint of a real server."""

from __future__ import annotations

import re
import urllib.request

from tesserec.serving.triton import TritonProcess

LINE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def scrape(server: TritonProcess) -> dict[tuple[str, ...], float]:
    """(name, label=value...) -> number, of the metrics endpoint."""
    with LOCAL.open(f"http://{server.info['metrics']}/metrics", timeout=10) as reply:
        return parse(reply.read().decode())


def parse(text: str) -> dict[tuple[str, ...], float]:
    """The same of a text in Prometheus' format."""
    found = {}
    for line in text.splitlines():
        match = LINE.match(line)
        if match:
            labels = re.findall(r'(\w+)="([^"]*)"', match[2] or "")
            found[match[1], *sorted(f"{k}={v}" for k, v in labels)] = float(match[3])
    return found
