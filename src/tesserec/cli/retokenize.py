"""`tesserec retokenize`: keep semantic IDs fresh; new items, moved codes, another tokenizer."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tesserec.artifacts import Artifact, open_artifact
from tesserec.cli.main import common
from tesserec.cli.output import Output
from tesserec.cli.pipeline import new_run, run_pipeline
from tesserec.cli.release import share
from tesserec.config import RunConfig, change_config, load_config, to_dict
from tesserec.errors import TesserecError
from tesserec.locks import exclusive
from tesserec.project import find_project
from tesserec.steps.runner import recorded

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

Told = tuple[dict[str, Any], Callable[[], None]]  # for a machine, and for a person


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
        if name == "rebuild":
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
        common(action, project=name == "rebuild")


def execute(options: argparse.Namespace, out: Output) -> int:
    workdir: Path = options.workdir.resolve()
    if options.action == "rebuild":
        return _rebuild(workdir, options, out)  # its pipeline holds the lock
    with exclusive(
        workdir / ".lock", busy=f"a run or another re-tokenization is working in {workdir}"
    ):
        return _run(workdir, options, out)


def _run(workdir: Path, options: argparse.Namespace, out: Output) -> int:
    """A cadence in this process, and its report, whether a gate says no or not."""
    config = _configuration(workdir, options)
    arguments = {"cadence": options.action}
    folder = new_run(workdir, "retokenization", options.action, to_dict(config), arguments)
    clock = _Clock(out, folder)
    action: Callable[..., Told] = globals()[f"_{options.action}"]
    try:
        result, tell = action(workdir, config, options, clock, out)
    except TesserecError as error:
        report = _reported(workdir, folder, out)
        if options.debug:
            raise
        out.error(str(error))
        out.result({"error": str(error), "seconds": clock.seconds, "report": report})
        _say(report, out)
        return error.exit_code
    report = _reported(workdir, folder, out)
    out.result(result | {"report": report})
    tell()
    _say(report, out)
    return 0


def _say(report: str | None, out: Output) -> None:
    if report:
        out.line(f"report: {report}")


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


class _Clock:
    """Seconds by step, a line for each step that ends, and its record in the run's folder."""

    def __init__(self, out: Output, folder: Path) -> None:
        self._out = out
        self._folder = folder
        self.seconds: dict[str, float] = {}

    def __call__(
        self, name: str, work: Callable[[], Artifact], told: Callable[[Artifact], str]
    ) -> Artifact:
        began = time.monotonic()
        with (
            self._out.errors.status(name) if self._out.errors.is_terminal else _nothing(),
            recorded(self._folder, name) as record,
        ):
            made = work()
            record(made)
        seconds = self.seconds.get(name, 0.0) + time.monotonic() - began
        self.seconds[name] = round(seconds, 2)
        self._out.note(f"  {name:<13} {self.seconds[name]:6.1f} s  {told(made)}")
        return made

    def note(self, text: str) -> None:
        self._out.note(f"  note: {text}")


def _nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()


def _configuration(workdir: Path, options: argparse.Namespace) -> RunConfig:
    if options.config:
        return load_config(options.config, options.overrides)
    from tesserec.retokenization.stock import open_stock

    return change_config(open_stock(workdir).config, options.overrides)


def _decide(
    workdir: Path, config: RunConfig, options: argparse.Namespace, clock: _Clock, out: Output
) -> Told:
    from tesserec.steps import decide, survey

    del options
    found = clock("survey", lambda: survey.run(workdir, config), _surveyed)
    made = clock("decide", lambda: decide.run(workdir, config, found), _name)
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
    workdir: Path, config: RunConfig, options: argparse.Namespace, clock: _Clock, out: Output
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
    workdir: Path, config: RunConfig, options: argparse.Namespace, clock: _Clock, out: Output
) -> Told:
    from tesserec.steps import maintain

    del options
    _, encoded, _ = _encoded(workdir, config, clock, None)
    features = _features(workdir, config, clock)
    made = clock("maintain", lambda: maintain.run(workdir, config, features), _maintained)
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


def _rebuild(workdir: Path, options: argparse.Namespace, out: Output) -> int:
    """Minutes of work in many steps: through the pipeline, which resumes step by step."""
    from tesserec.cli.run import EXIT_OF_ERROR
    from tesserec.retokenization.stock import open_stock

    if options.canary:
        options.overrides.append(f"retokenization.canary={options.canary}")
    config = _configuration(workdir, options)
    open_stock(workdir)  # what can't be rebuilt is said before minutes of work
    project = find_project(options.project)
    folder, records, code = run_pipeline(
        workdir, project, "retokenization", "rebuild", to_dict(config), out, {"cadence": "rebuild"}
    )
    seconds = {step: record["seconds"] for step, record in records.items()}
    page = folder / "freshness.html"
    report = str(page) if page.is_file() else None
    change, handover = (
        _made(records, step, name)
        for step, name in (("rebuild", "change.json"), ("hand_over", "handover.json"))
    )
    failed = [r for r in records.values() if r.get("error")]
    if failed or change is None or handover is None:
        text = f"{failed[0]['step']}: {failed[0]['error']}" if failed else "the pipeline stopped"
        out.result({"error": text, "seconds": seconds, "report": report})
        out.error(text)
        _say(report, out)
        out.note(f"log: {folder / 'run.log'}; the same command goes on where this one stopped")
        return EXIT_OF_ERROR.get(failed[0]["error_type"], 1) if failed else code or 1
    churn = change["churn"]
    result = {
        "release_id": change["release_id"],
        "parent": change["parent"],
        "cadence": "rebuild",
        "new_items": change["counts"]["new_items"],
        "reachable": handover["reachable"],
        "served": handover["served"],
        "counts": change["counts"],
        "churn": {key: churn[key] for key in ("items", "impressions", "digits")},
        "alignment": change["alignment"],
        "seconds": {**seconds, "total": round(sum(seconds.values()), 2)},
        "report": report,
    }
    out.result(result)
    role = f"a canary for {options.canary:.3g} of the users" if options.canary else "promoted"
    before, total = change["alignment"]["before"], result["seconds"]["total"]
    out.line(
        f"release {result['release_id']} is {role}: {churn['digits']:.1%} of digits changed "
        f"({before['digits']:.1%} before they got the old names; {total:.0f} s)"
    )
    _say(report, out)
    return 0


def _made(records: dict[str, dict[str, Any]], step: str, name: str) -> dict[str, Any] | None:
    """A JSON file of the artefact that a step made; None if it didn't come to that."""
    artifact = records.get(step, {}).get("artifact")
    return open_artifact(Path(artifact["uri"])).read_json(name) if artifact else None


def _encoded(
    workdir: Path, config: RunConfig, clock: _Clock, items: Path | None
) -> tuple[Artifact, dict[str, Any], dict[str, Any]]:
    """Survey, extend, judge, hand over: the survey, what was changed, and how it was promoted."""
    from tesserec.steps import extend, survey

    name = str(items.resolve()) if items else ""
    found = clock("survey", lambda: survey.run(workdir, config, items=name), _surveyed)
    made = clock("extend", lambda: extend.run(workdir, config, found), _extended)
    return found, *_judged(workdir, config, clock, made, None)


def _features(workdir: Path, config: RunConfig, clock: _Clock) -> Artifact:
    """The events of the data and of the log, checked and in order."""
    from tesserec.steps import features, gate_features, gate_raw, ingest

    raw = clock("ingest", lambda: ingest.run(workdir, config), _name)
    clock("gate_raw", lambda: gate_raw.run(workdir, config, raw), _name)
    made = clock("features", lambda: features.run(workdir, config, raw), _name)
    clock("gate_features", lambda: gate_features.run(workdir, config, made), _name)
    return made


def _judged(
    workdir: Path, config: RunConfig, clock: _Clock, made: Artifact, features: Artifact | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Gate and hand over: what was changed, and how it was promoted."""
    from tesserec.steps import hand_over, judge

    change = made.read_json("change.json")
    clock("judge", lambda: judge.run(workdir, config, made, features), lambda _: "passed")
    handed = clock("hand_over", lambda: hand_over.run(workdir, config, made), _handed)
    for note in change["notes"]:
        clock.note(note)
    return change, handed.read_json("handover.json")


def _result(change: dict[str, Any], handover: dict[str, Any], clock: _Clock) -> dict[str, Any]:
    return {
        "release_id": change["release_id"] or change["parent"],
        "parent": change["parent"],
        "cadence": change["cadence"],
        "new_items": change["counts"].get("new_items", 0),
        "reachable": handover.get("reachable", 0),
        "served": handover["served"],
        "seconds": {**clock.seconds, "total": round(sum(clock.seconds.values()), 2)},
    }


def _where(handover: dict[str, Any], clock: _Clock) -> str:
    told = "the running server answers with it" if handover["served"] else "no server runs"
    return f"{told} ({sum(clock.seconds.values()):.0f} s)"


def _name(artifact: Artifact) -> str:
    return artifact.path.name


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


def _maintained(artifact: Artifact) -> str:
    told = artifact.read_json("change.json")
    counts, tuning = told["counts"], told["tuning"]
    return (
        f"{told['release_id']}: {counts['moved']:,} items moved, {counts['splits']} codes split, "
        f"{counts['revived']} revived; tuned on {tuning['targets']:,} events"
    )


def _handed(artifact: Artifact) -> str:
    told = artifact.read_json("handover.json")
    if not told["promoted"]:
        return "nothing to promote"
    served = f"served after {told['seconds']['reach']:.1f} s" if told["served"] else "no server"
    return f"rehearsed with {told['histories']} histories, promoted, {served}"
