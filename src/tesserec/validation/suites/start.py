"""How every suite starts: most expectations pass on an empty frame, so rows come first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tesserec.validation.library import great_expectations


@dataclass(frozen=True)
class Suite:
    """Expectations for one table, and the columns that name a row in examples."""

    expectations: list[Any] = field(default_factory=list)
    row_id: tuple[str, ...] = ()


def expectations() -> Any:
    """Great Expectations' classes of expectations."""
    return great_expectations(".expectations")


def where(column: str) -> Any:
    """A column to make a `row_condition` of, as in `where("count") > 8`."""
    return great_expectations(".expectations.row_conditions").Column(column)


def start(columns: Sequence[str], min_rows: int, *, max_rows: int | None = None) -> list[Any]:
    """A row floor of at least 1 (and a ceiling), and the columns that must be there."""
    gxe = expectations()

    return [
        gxe.ExpectTableRowCountToBeBetween(
            min_value=max(1, min_rows), max_value=max_rows, severity="critical"
        ),
        gxe.ExpectTableColumnsToMatchSet(
            column_set=list(columns), exact_match=False, severity="critical"
        ),
    ]


def not_null(*columns: str, severity: str = "critical") -> list[Any]:
    gxe = expectations()

    return [gxe.ExpectColumnValuesToNotBeNull(column=c, severity=severity) for c in columns]


def between(
    column: str,
    low: float | None,
    high: float | None = None,
    *,
    severity: str = "critical",
    strict_low: bool = False,
    mostly: float = 1.0,
) -> Any:
    """Every value (or the share `mostly`) lies in [low, high]; null values are not looked at."""
    gxe = expectations()

    return gxe.ExpectColumnValuesToBeBetween(
        column=column,
        min_value=low,
        max_value=high,
        strict_min=strict_low,
        mostly=mostly,
        severity=severity,
    )


def true(column: str, *, severity: str = "critical") -> Any:
    """Every value of a boolean column is true."""
    gxe = expectations()

    return gxe.ExpectColumnValuesToBeInSet(column=column, value_set=[True], severity=severity)
