"""The one place that prints: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


class Output:
    """Prints for a person, or (with `json_only`) one JSON object for a machine."""

    def __init__(self, *, json_only: bool = False) -> None:
        self.json_only = json_only
        # A log file has no width, and a cut number is no number: at least 100 columns.
        width = max(100, shutil.get_terminal_size((160, 24)).columns)
        self.console = Console(highlight=False, soft_wrap=True, width=width)
        self.errors = Console(stderr=True, highlight=False, soft_wrap=True)

    def result(self, value: Mapping[str, Any]) -> None:
        """Print the machine's answer; silent for a person, who gets `line` and `table`."""
        if self.json_only:
            sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
            sys.stdout.flush()

    def line(self, text: str = "") -> None:
        if not self.json_only:
            self.console.print(text, markup=False)

    def table(
        self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, left: int = 1
    ) -> None:
        """Print rows; the first `left` columns hold text, the others numbers."""
        if self.json_only:
            return
        table = Table(
            title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2)
        )
        for i, column in enumerate(columns):
            table.add_column(column, justify="left" if i < left else "right", no_wrap=True)
        for row in rows:
            table.add_row(*[str(cell) for cell in row])
        self.console.print(table)

    def note(self, text: str) -> None:
        """A remark beside the result, on standard error."""
        self.errors.print(text, markup=False)

    def failure(self, text: str) -> None:
        """The command failed before it had a result: one object for a machine too."""
        self.error(text)
        self.result({"error": text})

    def error(self, text: str) -> None:
        self.errors.print(f"error: {text}", markup=False, style="red")


METRICS = ("recall@5", "recall@10", "recall@50", "ndcg@5", "ndcg@10", "ndcg@50")
SHORT = [m.replace("recall", "R").replace("ndcg", "N") for m in METRICS]  # fits 80 columns


def metric_table(out: Output, metrics: Mapping[str, Any]) -> None:
    """The model beside its baselines, seen items kept and dropped."""
    rows: list[list[object]] = []
    entries = {metrics["model"]: metrics, **metrics.get("baselines", {})}
    for name, entry in entries.items():
        for protocol in ("kept", "dropped"):
            figures = entry[protocol]
            low, high = figures.get("ndcg@10_ci", (None, None))
            interval = "" if low is None else f"{low:.4f} {high:.4f}"
            rows.append([name, protocol, *[f"{figures[m]:.4f}" for m in METRICS], interval])
    out.table(
        f"Recall and NDCG, {metrics['users']:,} test users, full ranking, seen kept or dropped",
        ["model", "seen", *SHORT, "N@10 95 %"],
        rows,
    )
