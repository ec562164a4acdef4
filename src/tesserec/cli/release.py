"""`tesserec release`: list, try, promote, roll back, verify and prune releases."""

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
  tesserec release promote r0123456789a --canary 5%     for a share of the users
  tesserec release promote r0123456789a --shadow        answers compared, not shown
  tesserec release rollback
  tesserec release prune
"""
ACTIONS = {
    "list": "all releases, the newest first, and what the running server holds",
    "promote": "move the pointer to a release, or try it beside the promoted one first",
    "rollback": "cancel what is tried; else move the pointer back to the release before",
    "verify": "hash every file of a release again (default: the promoted one)",
    "prune": "delete all but the promoted one, the one before, the newest 3 and what these need",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in ACTIONS.items():
        action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if name == "promote":
            action.add_argument("release_id")
            tried = action.add_mutually_exclusive_group()
            tried.add_argument(
                "--canary",
                type=share,
                metavar="P%",
                help="answer this share of the users by it; promote it again to complete",
            )
            tried.add_argument(
                "--shadow",
                type=share,
                nargs="?",
                const=1.0,
                metavar="P%",
                help="let it answer this share (default: all) beside the promoted one, unseen",
            )
        if name == "verify":
            action.add_argument("release_id", nargs="?")
        common(action)


def share(text: str) -> float:
    """`5%` or `0.05` -> 0.05"""
    try:
        found = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share; write 5% or 0.05")
    return found


def execute(options: argparse.Namespace, out: Output) -> int:
    workdir = options.workdir.resolve()
    if not workdir.is_dir():
        raise UsageError(f"there is no workdir {workdir}; name one with --workdir")
    action: Callable[[Any, argparse.Namespace, Output], int] = globals()[f"_{options.action}"]
    return action(workdir, options, out)


def _list(workdir: Any, options: argparse.Namespace, out: Output) -> int:
    from tesserec.release import list_releases, read_pointer
    from tesserec.serving.status import server_status

    releases = list_releases(workdir)
    pointer = read_pointer(workdir) or {}
    status = server_status(workdir)
    out.result(
        {
            "releases": releases,
            "canary": pointer.get("candidate"),
            "withdrawn": pointer.get("withdrawn"),
            "server": status,
        }
    )
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
            _role(r, pointer),
            r["created"][:19],
            r["model"],
            f"{r['items']:,}",
            f"{r['metrics']['kept']['ndcg@10']:.4f}"
            if (r.get("metrics") or {}).get("kept")
            else "",
        ]
        for r in releases
    ]
    out.table(
        "releases", ["release", "", "created", "model", "items", "ndcg@10 kept"], rows, left=4
    )
    _tell(pointer, status, out)
    return 0


def _role(row: dict[str, Any], pointer: dict[str, Any]) -> str:
    if row["promoted"]:
        return "promoted"
    candidate = pointer.get("candidate")
    if candidate and candidate["release_id"] == row["release_id"]:
        return _tried(candidate)
    return ""


def _tried(candidate: dict[str, Any]) -> str:
    """`canary 5%`"""
    return f"{candidate['mode']} {100 * candidate['share']:.4g}%"


def _tell(pointer: dict[str, Any], status: dict[str, Any] | None, out: Output) -> None:
    """What was withdrawn, and how things stand in the running server."""
    gone = pointer.get("withdrawn")
    if gone:
        out.line(f"{gone['release_id']} ({gone['role']}) was withdrawn: {gone['reason']}")
    if status is None:
        return
    behind = status.get("instead_of")
    instead = f" INSTEAD OF {behind}, which is promoted" if behind else ""
    out.line(f"the server (process {status['pid']}) serves {status['serving']}{instead}")
    second = status["second"]
    if second:
        figures = ", ".join(
            f"{name} {value:.4g}" for name, value in second["figures"].items() if value is not None
        )
        out.line(f"  beside it: {second['release_id']} ({second['role']}); {figures}")
    for refused in status["refused"]:
        out.line(f"  refused: {refused['release_id']}: {refused['reason']}")


def _promote(workdir: Any, options: argparse.Namespace, out: Output) -> int:
    from tesserec.release import CANARY, SHADOW, promote, try_release

    mode = CANARY if options.canary is not None else SHADOW
    share = options.canary if options.canary is not None else options.shadow
    if share is None:
        return _moved(promote(workdir, options.release_id), out)
    pointer = try_release(workdir, options.release_id, mode=mode, share=share)
    out.result(
        {
            "release_id": options.release_id,
            "promoted": False,
            "previous": pointer["previous"],
            "ok": True,
            "problems": [],
            "canary": pointer["candidate"],
        }
    )
    out.line(
        f"{options.release_id} is tried beside {pointer['release_id']}: "
        f"{_tried(pointer['candidate'])}; complete it by promoting it, cancel it by rollback"
    )
    return 0


def _rollback(workdir: Any, options: argparse.Namespace, out: Output) -> int:
    from tesserec.release import read_pointer, rollback

    former = read_pointer(workdir) or {}
    pointer = rollback(workdir)
    if pointer["release_id"] == former.get("release_id"):  # it was the candidate that went
        # none, if another process cancelled it meanwhile
        tried = former.get("candidate") or {"release_id": "the candidate"}
        out.note(f"{tried['release_id']} is tried no more")
        return _moved(pointer, out)
    return _moved({**pointer, "previous": former.get("release_id")}, out)


def _moved(pointer: dict[str, Any], out: Output) -> int:
    result = {
        "release_id": pointer["release_id"],
        "promoted": True,
        "previous": pointer.get("previous"),
        "ok": True,
        "problems": [],
        "canary": pointer["candidate"],
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
