"""`tesserec retokenize`: keep semantic IDs fresh; new items, moved codes, another tokenizer."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tesserec.artifacts import Artifact
from tesserec.cli.main import common
from tesserec.cli.output import Output
from tesserec.cli.pipeline import new_run
from tesserec.cli.release import share
from tesserec.cli.retokenize_lines import (
    Clock,
    extended,
    handed,
    maintained,
    name,
    say,
    surveyed,
)
from tesserec.config import RunConfig, change_config, load_config, to_dict
from tesserec.errors import TesserecError
from tesserec.locks import exclusive

EXAMPLES = """examples:
  tesserec retokenize decide                           what is due, and why
  tesserec retokenize encode                           new and edited items of the configured data
  tesserec retokenize encode --items new.parquet       of one file alone
  tesserec retokenize encode data.path=/data/today     of data that lie elsewhere now
  tesserec retokenize rebuild --canary 5%              all codes anew, for 5 % of the users first
  tesserec retokenize maintain                         then codes within the budget, and the model
"""
ACTIONS = {
    "decide": "say which of the others is due, with the evidence; changes nothing",
    "encode": "give new and edited items their IDs, promote them into the running server",
    "rebuild": "another tokenizer under the old names; the model goes on under it",
    "maintain": "encode, move codes that no longer fit within a budget, tune the model",
}
Told = tuple[dict[str, Any], Callable[[], None]]  # for a machine, and for a person


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for cadence, text in ACTIONS.items():
        action = actions.add_parser(
            cadence,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if cadence == "encode":
            action.add_argument(
                "--items", type=Path, help="a file of new and edited items alone; none is retired"
            )
        if cadence == "rebuild":
            action.add_argument(
                "--canary",
                type=share,
                metavar="P%",
                help="answer this share of the users by it; `release promote` completes it",
            )
        action.add_argument(
            "--config", type=Path, help="the run's YAML (default: that of the promoted release)"
        )
        action.add_argument(
            "overrides", nargs="*", metavar="a.b=1", help="values that replace the configuration's"
        )
        common(action, project=cadence == "rebuild")


def execute(options: argparse.Namespace, out: Output) -> int:
    workdir: Path = options.workdir.resolve()
    if options.action == "rebuild":
        from tesserec.cli.retokenize_rebuild import rebuild

        if options.canary:
            options.overrides.append(f"retokenization.canary={options.canary}")
        config = _configuration(workdir, options)
        return rebuild(workdir, config, options, out)  # its pipeline holds the lock
    with exclusive(
        workdir / ".lock", busy=f"a run or another re-tokenization is working in {workdir}"
    ):
        return _run(workdir, options, out)


def _run(workdir: Path, options: argparse.Namespace, out: Output) -> int:
    """A cadence in this process, and its report, whether a gate says no or not."""
    config = _configuration(workdir, options)
    arguments = {"cadence": options.action}
    folder = new_run(workdir, "retokenization", options.action, to_dict(config), arguments)
    clock = Clock(out, folder)
    action: Callable[..., Told] = globals()[f"_{options.action}"]
    try:
        result, tell = action(workdir, config, options, clock, out)
    except TesserecError as error:
        report = _reported(workdir, folder, out)
        if options.debug:
            raise
        out.error(str(error))
        out.result({"error": str(error), "seconds": clock.seconds, "report": report})
        say(report, out)
        return error.exit_code
    report = _reported(workdir, folder, out)
    out.result(result | {"report": report})
    tell()
    say(report, out)
    return 0


def _reported(workdir: Path, folder: Path, out: Output) -> str | None:
    """Write the report of freshness; one that fails must not fail what was promoted."""
    from tesserec.steps import freshness

    began = time.monotonic()
    try:
        path = freshness.run(workdir, folder.name)
    except Exception as error:
        out.note(f"  note: the report was not written: {type(error).__name__}: {error}")
        return None
    out.note(f"  {'report':<13} {time.monotonic() - began:6.1f} s")
    return str(path)


def _configuration(workdir: Path, options: argparse.Namespace) -> RunConfig:
    if options.config:
        return load_config(options.config, options.overrides)
    from tesserec.retokenization.stock import open_stock

    return change_config(open_stock(workdir).config, options.overrides)


def _decide(
    workdir: Path, config: RunConfig, options: argparse.Namespace, clock: Clock, out: Output
) -> Told:
    from tesserec.steps import decide, survey

    del options
    found = clock("survey", lambda: survey.run(workdir, config), surveyed)
    made = clock("decide", lambda: decide.run(workdir, config, found), name)
    told = made.read_json("decision.json")
    result = {
        "release_id": told["parent"],
        "parent": told["parent"],
        "cadence": "decide",
        "new_items": told["waiting"]["new"],
        "reachable": 0,
        "churn": {"items": 0.0, "impressions": 0.0, "digits": 0.0},
        "seconds": {**clock.seconds, "total": round(sum(clock.seconds.values()), 2)},
        "decision": {key: told[key] for key in ("due", "reasons", "evidence", "waiting")},
    }
    rows = [
        [e["test"], _number(e["effect"]), _number(e["null"]), _number(e["p"]), _fired(e), e["text"]]
        for e in told["evidence"]
    ]

    def tell() -> None:
        out.table("evidence", ["what", "effect", "limit", "p", "", ""], rows)
        if told["due"] == "none":
            out.line(f"nothing is due: release {told['parent']} is fresh")
        else:
            out.line(f"due: tesserec retokenize {told['due']} ({'; '.join(told['reasons'])})")

    return result, tell


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _fired(evidence: dict[str, Any]) -> str:
    return "fires" if evidence["fires"] else ""


def _encode(
    workdir: Path, config: RunConfig, options: argparse.Namespace, clock: Clock, out: Output
) -> Told:
    found, change, handover = _encoded(workdir, config, clock, options.items)
    result = _result(change, handover, clock) | {
        "counts": change["counts"],
        "refused": found.read_json("summary.json")["refused"],
        "churn": {"items": 0.0, "impressions": 0.0, "digits": 0.0},
    }
    text = (
        f"release {result['release_id']} is promoted: {result['new_items']:,} new items, "
        f"{result['reachable']:,} of them reachable, no code changed; {_where(handover, clock)}"
    )
    if not change["release_id"]:
        text = f"nothing to do: release {change['parent']} knows all items of the data"
    return result, lambda: out.line(text)


def _maintain(
    workdir: Path, config: RunConfig, options: argparse.Namespace, clock: Clock, out: Output
) -> Told:
    from tesserec.steps import maintain

    del options
    _, encoded, _ = _encoded(workdir, config, clock, None)
    features = _features(workdir, config, clock)
    made = clock("maintain", lambda: maintain.run(workdir, config, features), maintained)
    change, handover = _judged(workdir, config, clock, made, features)
    result = _result(change, handover, clock) | {
        "new_items": encoded["counts"]["new_items"],
        "counts": change["counts"],
        "churn": {k: change["churn"][k] for k in ("items", "impressions", "digits")},
        "tuning": change["tuning"],
    }
    churn = result["churn"]
    text = (
        f"release {result['release_id']} is promoted: {change['counts']['moved']:,} items moved "
        f"({churn['digits']:.2%} of digits, {churn['items']:.2%} of items), the model tuned on "
        f"{change['tuning']['targets']:,} events; {_where(handover, clock)}"
    )
    return result, lambda: out.line(text)


def _encoded(
    workdir: Path, config: RunConfig, clock: Clock, items: Path | None
) -> tuple[Artifact, dict[str, Any], dict[str, Any]]:
    """Survey, extend, judge, hand over: the survey, what was changed, and how it was promoted."""
    from tesserec.steps import extend, survey

    path = str(items.resolve()) if items else ""
    found = clock("survey", lambda: survey.run(workdir, config, items=path), surveyed)
    made = clock("extend", lambda: extend.run(workdir, config, found), extended)
    return found, *_judged(workdir, config, clock, made, None)


def _features(workdir: Path, config: RunConfig, clock: Clock) -> Artifact:
    """The events of the data and of the log, checked and in order."""
    from tesserec.steps import features, gate_features, gate_raw, ingest

    raw = clock("ingest", lambda: ingest.run(workdir, config), name)
    clock("gate_raw", lambda: gate_raw.run(workdir, config, raw), name)
    made = clock("features", lambda: features.run(workdir, config, raw), name)
    clock("gate_features", lambda: gate_features.run(workdir, config, made), name)
    return made


def _judged(
    workdir: Path, config: RunConfig, clock: Clock, made: Artifact, features: Artifact | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Gate and hand over: what was changed, and how it was promoted."""
    from tesserec.steps import hand_over, judge

    change = made.read_json("change.json")
    clock("judge", lambda: judge.run(workdir, config, made, features), lambda _: "passed")
    promoted = clock("hand_over", lambda: hand_over.run(workdir, config, made), handed)
    for note in change["notes"]:
        clock.note(note)
    return change, promoted.read_json("handover.json")


def _result(change: dict[str, Any], handover: dict[str, Any], clock: Clock) -> dict[str, Any]:
    return {
        "release_id": change["release_id"] or change["parent"],
        "parent": change["parent"],
        "cadence": change["cadence"],
        "new_items": change["counts"].get("new_items", 0),
        "reachable": handover.get("reachable", 0),
        "served": handover["served"],
        "seconds": {**clock.seconds, "total": round(sum(clock.seconds.values()), 2)},
    }


def _where(handover: dict[str, Any], clock: Clock) -> str:
    told = "the running server answers with it" if handover["served"] else "no server runs"
    return f"{told} ({sum(clock.seconds.values()):.0f} s)"
