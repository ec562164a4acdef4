"""`tesserec release`: list, promote, roll back, verify and prune releases."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from tesserec.cli.main import common
from tesserec.cli.output import Output
from tesserec.errors import UsageError

EXAMPLES = """examples:
  tesserec release list
  tesserec release verify r0123456789a
  tesserec release promote r0123456789a
  tesserec release rollback
  tesserec release prune
"""
ACTIONS = {
    "list": "all releases, the newest first",
    "promote": "move the pointer to a release, after its hashes were checked",
    "rollback": "move the pointer back to the release promoted before",
    "verify": "hash every file of a release again (default: the promoted one)",
    "prune": "delete all but the promoted one, the one before, the newest 3 and what these need",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in ACTIONS.items():
        action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if name == "promote":
            action.add_argument("release_id")
        if name == "verify":
            action.add_argument("release_id", nargs="?")
        common(action)


def execute(options: argparse.Namespace, out: Output) -> int:
    workdir = options.workdir.resolve()
    if not workdir.is_dir():
        raise UsageError(f"there is no workdir {workdir}; name one with --workdir")
    action: Callable[[Any, argparse.Namespace, Output], int] = globals()[f"_{options.action}"]
    return action(workdir, options, out)


def _list(workdir: Any, options: argparse.Namespace, out: Output) -> int:
    from tesserec.release import list_releases

    releases = list_releases(workdir)
    out.result({"releases": releases})
    if not releases:
        others = sorted(p.parent.name for p in workdir.glob("*/promoted"))
        hint = f"; there are some in {', '.join(str(workdir / o) for o in others)}"
        out.line(
            f"no releases in {workdir} yet{hint if others else ''}; "
            "make one with: tesserec run CONFIG.yaml"
        )
        return 0
    rows = [
        [
            r["release_id"],
            "promoted" if r["promoted"] else "",
            r["created"][:19],
            r["model"],
            f"{r['items']:,}",
            f"{r['metrics']['kept']['ndcg@10']:.4f}" if r.get("metrics") else "",
        ]
        for r in releases
    ]
    out.table(
        "releases", ["release", "", "created", "model", "items", "ndcg@10 kept"], rows, left=4
    )
    return 0


def _promote(workdir: Any, options: argparse.Namespace, out: Output) -> int:
    from tesserec.release import promote

    return _moved(promote(workdir, options.release_id), out)


def _rollback(workdir: Any, options: argparse.Namespace, out: Output) -> int:
    from tesserec.release import promoted, rollback

    former = promoted(workdir)
    return _moved({**rollback(workdir), "previous": former}, out)


def _moved(pointer: dict[str, Any], out: Output) -> int:
    result = {
        "release_id": pointer["release_id"],
        "promoted": True,
        "previous": pointer.get("previous"),
        "ok": True,
        "problems": [],
    }
    out.result(result)
    out.line(f"{result['release_id']} is promoted (before: {result['previous'] or 'nothing'})")
    return 0


def _verify(workdir: Any, options: argparse.Namespace, out: Output) -> int:
    from tesserec.release import promoted, release_folder, verify

    served = promoted(workdir)
    release_id = options.release_id or served
    if release_id is None:
        raise UsageError(
            f"no release is promoted in {workdir}; name one: tesserec release verify ID"
        )
    problems = verify(release_folder(workdir, release_id))
    is_served = served == release_id
    out.result(
        {
            "release_id": release_id,
            "promoted": is_served,
            "previous": None,
            "ok": not problems,
            "problems": problems,
        }
    )
    for problem in problems:
        out.error(problem)
    if not problems:
        out.line(f"{release_id}: every file has the bytes of its manifest")
    return 1 if problems else 0


def _prune(workdir: Any, options: argparse.Namespace, out: Output) -> int:
    from tesserec.release import promoted, prune

    deleted = prune(workdir)
    out.result(
        {
            "release_id": promoted(workdir),
            "promoted": True,
            "previous": None,
            "ok": True,
            "problems": [],
            "deleted": deleted,
        }
    )
    out.line(f"deleted: {', '.join(deleted)}" if deleted else "nothing to delete")
    return 0
