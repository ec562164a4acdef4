"""`tesserec run`: the training pipeline through KFP's local runner, watched and summed up."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tesserec.cli.main import common
from tesserec.cli.output import Output, metric_table
from tesserec.cli.pipeline import run_pipeline
from tesserec.config import load_config, to_dict
from tesserec.errors import UsageError
from tesserec.project import find_project

EXAMPLES = """examples:
  tesserec run configs/demo.yaml
  tesserec run configs/beauty.yaml --workdir work/beauty training.epochs=20
  tesserec run mine.yaml --json | jq .metrics
"""
EXIT_OF_ERROR = {"GateFailed": 3, "UsageError": 2}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, help="the run's YAML (docs/configuration.md)")
    parser.add_argument(
        "overrides", nargs="*", metavar="a.b=1", help="values that replace the YAML's"
    )
    common(parser, project=True)


def execute(options: argparse.Namespace, out: Output) -> int:
    config = load_config(options.config, options.overrides)
    project = find_project(options.project)
    workdir: Path = options.workdir.resolve()
    if workdir.exists() and not workdir.is_dir():
        raise UsageError(f"--workdir {workdir} is a file; name a folder")
    folder, records, return_code = run_pipeline(
        workdir, project, "training", config.name, to_dict(config), out
    )
    result, code = _summary(workdir, folder, records, return_code)
    out.result(result)
    _tell(result, records, folder, code, out)
    return code


def _summary(
    workdir: Path, folder: Path, records: dict[str, dict[str, Any]], return_code: int | None
) -> tuple[dict[str, Any], int]:
    """The machine's answer (architecture: For machines) and the exit code."""
    gates = [
        {k: verdict[k] for k in ("name", "passed", "failed_expectations")}
        for step, record in records.items()  # in the order in which they ended
        if step.startswith("gate_") and (verdict := _read(record, "verdict.json"))
    ]
    release = _read(records.get("build_release"), "release.json")
    release_id = release["release_id"] if release else None
    metrics = _read(records.get("evaluate"), "metrics.json")
    report = folder / "report.html"
    result = {
        "workdir": str(workdir),
        "release_id": release_id,
        "promoted": "promote" in records and not records["promote"].get("error"),
        "gates": gates,
        "metrics": metrics and {**metrics, "release_id": release_id},
        "seconds": {step: r["seconds"] for step, r in records.items()},
        "report": str(report) if report.exists() else None,
    }
    errors = [r for r in records.values() if r.get("error")]
    if errors:
        result["error"] = f"{errors[0]['step']}: {errors[0]['error']}"
        return result, EXIT_OF_ERROR.get(errors[0]["error_type"], 1)
    return result, 0 if return_code == 0 and result["promoted"] else 1


def _read(record: dict[str, Any] | None, name: str) -> Any:
    if not record or not record.get("artifact"):
        return None
    path = Path(record["artifact"]["uri"]) / name
    return json.loads(path.read_text()) if path.exists() else None


def _tell(
    result: dict[str, Any],
    records: dict[str, dict[str, Any]],
    folder: Path,
    code: int,
    out: Output,
) -> None:
    reused = sum(1 for r in records.values() if r["reused"])
    total = sum(r["seconds"] for r in records.values())
    if result["metrics"]:
        metric_table(out, result["metrics"])
    if result["report"]:
        out.line(f"report: {result['report']}")
    if code == 0:
        out.line(
            f"release {result['release_id']} is promoted in {result['workdir']} "
            f"({len(records)} steps, {reused} already done, {total:.0f} s)"
        )
        return
    failed = [r for r in records.values() if r.get("error")]
    message = failed[0]["error"] if failed else f"the pipeline stopped; see {folder / 'run.log'}"
    if result["promoted"]:
        message = f"release {result['release_id']} is promoted, but the report was not written"
    step = f"{failed[0]['step']}: " if failed else ""
    out.error(f"{step}{message}")
    out.note(
        f"log: {folder / 'run.log'}; with the cause mended, the same command goes on after the "
        "last finished step"
    )
