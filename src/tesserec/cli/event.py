"""`tesserec event`: one interaction, pushed to the online store and appended to the raw log."""

from __future__ import annotations

import argparse
from pathlib import Path

from tesserec.cli.main import common
from tesserec.cli.output import Output
from tesserec.project import find_project

EXAMPLES = """examples:
  tesserec event --user U42 --item I7
  tesserec event --user U42 --item I7 --time 1700000000 --json
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--user", required=True, help="user id")
    parser.add_argument("--item", required=True, help="item id")
    parser.add_argument("--time", type=int, help="seconds since 1970, UTC (default: now)")
    common(parser, project=True)


def execute(options: argparse.Namespace, out: Output) -> int:
    from tesserec.features.push import push_event

    find_project(options.project)
    workdir: Path = options.workdir.resolve()
    result = push_event(workdir, options.user, options.item, options.time)
    out.result(result)
    out.line(f"pushed: user {result['user_id']}, item {result['item_id']}, time {result['time']}")
    if not _is_served(workdir, options.item):
        out.note(
            f"note: {options.item} is not among the items of the promoted release; recommendations "
            "ignore it until a release has it"
        )
    return 0


def _is_served(workdir: Path, item_id: str) -> bool:
    """Whether the promoted release has this item; true where nothing is promoted."""
    import pyarrow.dataset as ds

    from tesserec.release import promoted, read_release, release_folder
    from tesserec.release.manifest import part_path, parts_of

    release_id = promoted(workdir)
    if release_id is None:
        return True
    folder = release_folder(workdir, release_id)
    files = [part_path(folder, part) for part in parts_of(read_release(folder)["parts"]["items"])]
    return ds.dataset(files).count_rows(filter=ds.field("item_id") == item_id) > 0
