"""`tesserec retokenize rebuild`: minutes of work in many steps, so it goes through the pipeline."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tesserec.artifacts import open_artifact
from tesserec.cli.output import Output
from tesserec.cli.pipeline import run_pipeline
from tesserec.cli.retokenize_lines import say
from tesserec.cli.run import EXIT_OF_ERROR
from tesserec.config import RunConfig, to_dict
from tesserec.project import find_project


def rebuild(workdir: Path, config: RunConfig, options: argparse.Namespace, out: Output) -> int:
    """Run it and tell; a run that was stopped goes on step by step. Returns the exit code."""
    from tesserec.retokenization.stock import open_stock

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
        say(report, out)
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
    say(report, out)
    return 0


def _made(records: dict[str, dict[str, Any]], step: str, name: str) -> dict[str, Any] | None:
    """A JSON file of the artefact that a step made; None if it didn't come to that."""
    artifact = records.get(step, {}).get("artifact")
    return open_artifact(Path(artifact["uri"])).read_json(name) if artifact else None
