"""The HTML report of a run or a release: one file, no outside resource."""

from tesserec.report.render import release_report, run_report

__all__ = ["release_report", "run_report"]
