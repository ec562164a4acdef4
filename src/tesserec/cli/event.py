"""`tesserec event`: one interaction, pushed to the online store and appended to the raw log."""

from __future__ import annotations

import argparse

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
    result = push_event(options.workdir.resolve(), options.user, options.item, options.time)
    out.result(result)
    out.line(f"pushed: user {result['user_id']}, item {result['item_id']}, time {result['time']}")
    return 0
