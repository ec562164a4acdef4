"""Step: write the run's report; as the exit handler it works however the run ended."""

from __future__ import annotations

from pathlib import Path

VERSION = 1


def run(workdir: Path, run_id: str) -> Path:
    """Write `<workdir>/reports/<run_id>/report.html` and return its path."""
    from tesserec.report import run_report

    return run_report(workdir, run_id)
