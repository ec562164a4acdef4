"""`tesserec data`: make a generated shop, or fetch public data."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)

from tesserec.cli.main import common
from tesserec.cli.output import Output

MAKE = """examples:
  tesserec data make shop --users 3000 --items 1200 --seed 1
  tesserec data make shop --users 3000 --items 1200 --seed 1 --new-items 500
"""
FETCH = """examples:
  tesserec data fetch amazon2014/Beauty data/beauty
  tesserec data fetch https://example.org/file.gz data --sha256 HEX
"""
EXAMPLES = f"{MAKE}{FETCH.removeprefix('examples:').lstrip(chr(10))}"


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    raw = argparse.RawDescriptionHelpFormatter
    text = "write a generated shop: equal arguments give equal bytes"
    make = actions.add_parser("make", help=text, description=text, epilog=MAKE, formatter_class=raw)
    make.add_argument("path", type=Path, help="folder to write")
    make.add_argument("--users", type=int, default=3000, help="default: 3000")
    make.add_argument("--items", type=int, default=1200, help="default: 1200")
    make.add_argument("--seed", type=int, default=1, help="default: 1")
    make.add_argument("--dirty", type=float, default=0.0, help="share of bad rows, up to 0.5")
    make.add_argument(
        "--new-items",
        type=int,
        default=0,
        help="items without events behind the others, which stay as they are (default: 0)",
    )
    common(make, workdir=False)
    text = "download a public data set, or a URL; a cut connection is resumed"
    fetch = actions.add_parser(
        "fetch", help=text, description=text, epilog=FETCH, formatter_class=raw
    )
    fetch.add_argument(
        "name", help="amazon2014/CATEGORY, amazon2023/CATEGORY, movielens/ml-100k, ... or a URL"
    )
    fetch.add_argument("path", type=Path, help="folder to write")
    fetch.add_argument(
        "--sha256", action="append", help="what the file must hash to (again for a second file)"
    )
    common(fetch, workdir=False)


def execute(options: argparse.Namespace, out: Output) -> int:
    if options.action == "make":
        from tesserec.data.make import make_shop

        result = make_shop(
            options.path,
            options.users,
            options.items,
            seed=options.seed,
            dirty=options.dirty,
            new_items=options.new_items,
        )
        out.line(
            f"wrote {result['interactions']:,} interactions of {result['users']:,} users "
            f"with {result['items']:,} items to {result['path']}"
        )
    else:
        result = _fetch(options, out)
        out.line(f"fetched {result['bytes']:,} bytes to {result['path']}")
    out.result(result)
    return 0


def _fetch(options: argparse.Namespace, out: Output) -> dict[str, Any]:
    """Download, then count what came, where the form is known."""
    from tesserec.config import DataConfig
    from tesserec.data.fetch import fetch, source_of
    from tesserec.data.ingest import describe

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=out.errors, transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def progress(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done, total=total)

        got = fetch(options.name, options.path, sha256=options.sha256, progress=progress)
    source = source_of(options.name)
    counts: dict[str, Any] = {"users": None, "items": None, "interactions": None}
    if source:
        counts = describe(DataConfig(source=source, path=str(got["path"])))
        counts = {name: counts[name] for name in ("users", "items", "interactions")}
    return {"path": str(got["path"]), **counts, "bytes": got["bytes"], "sha256": got["sha256"]}
