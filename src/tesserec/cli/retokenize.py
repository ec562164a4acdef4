"""`tesserec retokenize`: keep semantic IDs fresh; new items, moved codes, another tokenizer."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tesserec.artifacts import Artifact
from tesserec.cli.main import common
from tesserec.cli.output import Output
from tesserec.config import RunConfig, change_config, load_config
from tesserec.locks import exclusive

EXAMPLES = """examples:
  tesserec retokenize encode                           new and edited items of the configured data
  tesserec retokenize encode --items new.parquet       of one file alone
  tesserec retokenize encode data.path=/data/today     of data that lie elsewhere now
"""
ACTIONS = {
    "encode": "give new and edited items their IDs, promote them into the running server",
}
LINES = {
    "new_items": "new",
    "quarantined": "in quarantine",
    "activated": "out of quarantine",
    "edited": "edited",
    "moved_content": "edited beyond their code (the next maintain moves them)",
    "retired": "retired",
    "relisted": "listed again",
    "kept_apart": "kept apart from a retired item's code",
}
Made = TypeVar("Made")


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in ACTIONS.items():
        action = actions.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == "encode":
            action.add_argument(
                "--items", type=Path, help="a file of new and edited items alone; none is retired"
            )
        action.add_argument(
            "--config", type=Path, help="the run's YAML (default: that of the promoted release)"
        )
        action.add_argument(
            "overrides", nargs="*", metavar="a.b=1", help="values that replace the configuration's"
        )
        common(action)


def execute(options: argparse.Namespace, out: Output) -> int:
    workdir: Path = options.workdir.resolve()
    with exclusive(
        workdir / ".lock", busy=f"a run or another re-tokenization is working in {workdir}"
    ):
        action: Callable[[Path, argparse.Namespace, Output], int] = globals()[f"_{options.action}"]
        return action(workdir, options, out)


class _Clock:
    """Seconds by step, and a line for each step that ends."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, work: Callable[[], Made], told: Callable[[Made], str]) -> Made:
        began = time.monotonic()
        with self._out.errors.status(name) if self._out.errors.is_terminal else _nothing():
            made = work()
        self.seconds[name] = round(time.monotonic() - began, 2)
        self._out.note(f"  {name:<10} {self.seconds[name]:6.1f} s  {told(made)}")
        return made


def _nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()


def _configuration(workdir: Path, options: argparse.Namespace) -> RunConfig:
    if options.config:
        return load_config(options.config, options.overrides)
    from tesserec.retokenization.stock import open_stock

    return change_config(open_stock(workdir).config, options.overrides)


def _encode(workdir: Path, options: argparse.Namespace, out: Output) -> int:
    from tesserec.steps import extend, hand_over, survey

    config = _configuration(workdir, options)
    clock = _Clock(out)
    items = str(options.items.resolve()) if options.items else ""
    found = clock("survey", lambda: survey.run(workdir, config, items=items), _surveyed)
    made = clock("extend", lambda: extend.run(workdir, config, found), _extended)
    handed = clock("hand over", lambda: hand_over.run(workdir, config, made), _handed)
    extension, handover = made.read_json("change.json"), handed.read_json("handover.json")
    for note in extension["notes"]:
        out.note(f"  note: {note}")
    result = {
        "release_id": extension["release_id"] or extension["parent"],
        "parent": extension["parent"],
        "cadence": "encode",
        "new_items": extension["counts"]["new_items"],
        "reachable": handover.get("reachable", 0),
        "served": handover["served"],
        "counts": extension["counts"],
        "refused": found.read_json("summary.json")["refused"],
        "churn": {"items": 0.0, "impressions": 0.0, "digits": 0.0},
        "seconds": {**clock.seconds, "total": round(sum(clock.seconds.values()), 2)},
    }
    out.result(result)
    if not extension["release_id"]:
        out.line(f"nothing to do: release {extension['parent']} knows all items of the data")
        return 0
    where = "the running server answers with it" if handover["served"] else "no server runs"
    out.line(
        f"release {result['release_id']} is promoted: {result['new_items']:,} new items, "
        f"{result['reachable']:,} of them reachable, no code changed; {where} "
        f"({result['seconds']['total']:.0f} s)"
    )
    return 0


def _surveyed(artifact: Artifact) -> str:
    told = artifact.read_json("summary.json")
    refused = "".join(f"; {n:,} refused: {reason}" for reason, n in told["refused"].items())
    canary = f"canary set of {told['canary']:,} as it was" if told["canary"] else "no canary set"
    rows = f"{told['read']:,} rows: {told['new']:,} new, {told['changed']:,} changed"
    return f"{rows} ({told['edited']:,} edited){refused}; {canary}"


def _extended(artifact: Artifact) -> str:
    told = artifact.read_json("change.json")
    counts = [
        f"{told['counts'][key]:,} {text}" for key, text in LINES.items() if told["counts"][key]
    ]
    return f"{told['release_id'] or 'no release needed'}: {', '.join(counts) or 'nothing new'}"


def _handed(artifact: Artifact) -> str:
    told = artifact.read_json("handover.json")
    if not told["promoted"]:
        return "nothing to promote"
    served = f"served after {told['seconds']['reach']:.1f} s" if told["served"] else "no server"
    return f"rehearsed with {told['histories']} histories, promoted, {served}"
