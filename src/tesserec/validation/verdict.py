"""What a gate said, as JSON; read and judged without importing Great Expectations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tesserec.artifacts import Artifact, write_atomic
from tesserec.errors import GateFailed

VERDICT = "verdict.json"
DOCS = "data_docs/index.html"


@dataclass(frozen=True)
class Verdict:
    """The outcome of one gate.

    `failed_expectations` holds one dictionary each: table, expectation, severity
    (critical | warning | info), column, bad_share (0 to 1, or null where rows are not counted),
    examples (up to three), message. `passed` is false as soon as one of them is critical.
    """

    name: str
    passed: bool
    failed_expectations: Sequence[Mapping[str, Any]]
    checked: int  # expectations, over all tables
    rows: Mapping[str, int]  # rows of each table
    tables: Mapping[str, Mapping[str, Any]]  # table -> {passed, checked, page}

    @property
    def criticals(self) -> list[Mapping[str, Any]]:
        return [f for f in self.failed_expectations if f["severity"] == "critical"]

    def save(self, folder: Path) -> None:
        write_atomic(folder / VERDICT, json.dumps(asdict(self), indent=1, ensure_ascii=False))

    def message(self, docs: Path | None = None) -> str:
        """For people: expectation, column, share of bad rows, three examples, where to look."""
        if self.passed:
            return f"passed, {self.checked} expectations"
        first = self.criticals[0]
        more = len(self.criticals) - 1
        parts = [f"the gate says no: {describe(first)}"]
        if more:
            names = sorted({f"{f['expectation']} ({place(f)})" for f in self.criticals[1:]})
            parts.append(
                f"{more} more failed: {', '.join(names[:4])}{', …' if len(names) > 4 else ''}"
            )
        if docs is not None:
            parts.append(f"see {docs}")
        return "; ".join(parts)


def place(failed: Mapping[str, Any]) -> str:
    """`table.column`, or the table alone."""
    return f"{failed['table']}.{failed['column']}" if failed["column"] else str(failed["table"])


def describe(failed: Mapping[str, Any]) -> str:
    """One failed expectation in words."""
    text = f"{failed['expectation']} on {place(failed)}: {failed['message']}"
    if failed["examples"]:
        shown = ", ".join(json.dumps(e, ensure_ascii=False) for e in failed["examples"])
        text += f" (for example {shown})"
    return text


def read_verdict(folder: Path) -> Verdict:
    """The verdict that a gate left in its artefact."""
    return Verdict(**json.loads((folder / VERDICT).read_text()))


def raise_if_failed(artifact: Artifact) -> Artifact:
    """Return the gate's artefact if it passed.

    Raises:
        GateFailed: a critical expectation failed; its `artifact` is the gate's, for the report.
    """
    verdict = read_verdict(artifact.path)
    if verdict.passed:
        return artifact
    error = GateFailed(verdict.message(artifact.path / DOCS))
    error.artifact = artifact
    raise error
