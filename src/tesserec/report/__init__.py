"""HTML reports: of a run, of a release, of how fresh it is; one file, no outside resource."""

from tesserec.report.freshness import freshness_page
from tesserec.report.render import release_report, run_report

__all__ = ["freshness_page", "release_report", "run_report"]
