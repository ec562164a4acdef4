"""Run suites over tables as one gate: Data Docs and a verdict into a folder."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesserec.errors import UsageError
from tesserec.validation.docs import tidy_site
from tesserec.validation.library import great_expectations
from tesserec.validation.suites import SUITES, Suite
from tesserec.validation.verdict import Verdict

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)
SITE = "data_docs"
# Files of an artefact depend on its inputs alone; when a gate ran is in the artefact's manifest.
NO_TIME = datetime(2000, 1, 1, tzinfo=UTC)


def run_gate(
    name: str,
    tables: Mapping[str, pd.DataFrame],
    out: Path,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> Verdict:
    """Check each table with the suite of its name; write `data_docs/` and `verdict.json` to `out`.

    `settings[table]` are the keyword arguments of that table's suite (row floors, bounds).
    A failed expectation is a result, not an error: see `verdict.raise_if_failed`.

    Raises:
        UsageError: no table, a table without a suite, or a column that holds arrays.
    """
    if not tables:
        raise UsageError(f"{name} was given no table; a gate that checks nothing must not pass")
    suites: dict[str, Suite] = {}
    for table, frame in tables.items():
        if table not in SUITES:
            raise UsageError(f"{name}: no suite '{table}'; known: {', '.join(SUITES)}")
        _refuse_arrays(table, frame)
        suites[table] = SUITES[table](**(settings or {}).get(table, {}))
    context = _context(out / SITE)
    results = {t: _check(context, name, t, tables[t], suites[t]) for t in tables}
    failed = [f for t, r in results.items() for f in _failures(t, r)]
    pages = tidy_site(out / SITE, name, {t: bool(r["success"]) for t, r in results.items()})
    verdict = Verdict(
        name=name,
        passed=not any(f["severity"] == "critical" for f in failed),
        failed_expectations=failed,
        checked=sum(len(r["results"]) for r in results.values()),
        rows={t: len(frame) for t, frame in tables.items()},
        tables={
            t: {"passed": bool(r["success"]), "checked": len(r["results"]), "page": pages.get(t)}
            for t, r in results.items()
        },
    )
    verdict.save(out)
    log.info("%s: %s", name, verdict.message())
    return verdict


def _refuse_arrays(table: str, frame: pd.DataFrame) -> None:
    """Uniqueness on a column of arrays passes whatever it holds, so no suite may see one."""
    import numpy as np

    for column in frame.select_dtypes(include="object").columns:
        cells = frame[column].dropna()
        if len(cells) and isinstance(cells.iloc[0], np.ndarray | list | tuple | dict):
            raise UsageError(
                f"table '{table}' has arrays in column '{column}'; pass a string key or a number "
                "made of it, for uniqueness of arrays is not checked"
            )


def _context(site: Path) -> Any:
    gx = great_expectations()
    base = great_expectations(".data_context.types.base")
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = base.ProgressBarsConfig(globally=False)
    for name, other in dict(context.variables.data_docs_sites or {}).items():
        context.delete_data_docs_site(name)
        shutil.rmtree(other["store_backend"]["base_directory"], ignore_errors=True)
    context.add_data_docs_site(
        site_name=SITE,
        site_config={
            "class_name": "SiteBuilder",
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "store_backend": {
                "class_name": "TupleFilesystemStoreBackend",
                "base_directory": str(site.resolve()),
            },
        },
    )
    return context


def _actions() -> list[Any]:
    actions = great_expectations(".checkpoint.actions")
    return [actions.UpdateDataDocsAction(name="docs", site_names=[SITE])]


def _check(context: Any, gate: str, table: str, frame: pd.DataFrame, suite: Suite) -> Any:
    """Run one suite on one table; the result as plain JSON types."""
    gx = great_expectations()
    runs = great_expectations(".core.run_identifier")
    source = context.data_sources.add_pandas(table)
    batch = source.add_dataframe_asset("rows").add_batch_definition_whole_dataframe("all")
    rules = context.suites.add(gx.ExpectationSuite(name=table, expectations=suite.expectations))
    definition = context.validation_definitions.add(
        gx.ValidationDefinition(name=table, data=batch, suite=rules)
    )
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(
            name=table,
            validation_definitions=[definition],
            actions=_actions(),
            result_format={
                "result_format": "SUMMARY",
                "partial_unexpected_count": 20,
                "unexpected_index_column_names": [c for c in suite.row_id if c in frame.columns],
            },
        )
    )
    run = checkpoint.run(
        batch_parameters={"dataframe": frame},
        run_id=runs.RunIdentifier(run_name=gate, run_time=NO_TIME),
    )
    (result,) = run.run_results.values()
    return result.to_json_dict()


def _failures(table: str, result: Mapping[str, Any]) -> list[dict[str, Any]]:
    failures = []
    for one in result["results"]:
        if one["success"]:
            continue
        rule = one["expectation_config"]
        outcome: Mapping[str, Any] = one.get("result") or {}
        failures.append(
            {
                "table": table,
                "expectation": rule["type"],
                "severity": rule.get("severity") or "critical",
                "column": _column(rule["kwargs"]),
                "bad_share": _bad_share(outcome),
                "examples": _examples(outcome),
                "message": _message(rule["kwargs"], outcome, one.get("exception_info") or {}),
            }
        )
    # A missing column or an empty table explains the failures after it, so it is named first.
    first = ("expect_table_row_count_to_be_between", "expect_table_columns_to_match_set")
    order = {"critical": 0, "warning": 1, "info": 2}
    return sorted(
        failures, key=lambda f: (order.get(f["severity"], 0), f["expectation"] not in first)
    )


def _column(kwargs: Mapping[str, Any]) -> str | None:
    if kwargs.get("column"):
        return kwargs["column"]
    pair: Sequence[str] = [kwargs[k] for k in ("column_A", "column_B") if kwargs.get(k)]
    return ",".join(kwargs.get("column_list") or pair) or None


def _bad_share(outcome: Mapping[str, Any]) -> float | None:
    count, rows = outcome.get("unexpected_count"), outcome.get("element_count")
    return count / rows if count is not None and rows else None


def _examples(outcome: Mapping[str, Any]) -> list[Any]:
    missing = ((outcome.get("details") or {}).get("mismatched") or {}).get("missing")
    if missing:
        return list(missing)[:3]
    rows = outcome.get("partial_unexpected_index_list") or []
    if not outcome.get("unexpected_index_column_names"):  # a bare row number says nothing
        rows = outcome.get("partial_unexpected_list") or []
    found: list[Any] = []
    for example in rows:
        if (shown := _rounded(example)) not in found:
            found.append(shown)
    return found[:3]


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _rounded(v) for k, v in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _message(
    kwargs: Mapping[str, Any], outcome: Mapping[str, Any], raised: Mapping[str, Any]
) -> str:
    # A rule that could not be computed (a missing column, say) fails with its reason in here only.
    reasons = [raised] if "raised_exception" in raised else list(raised.values())
    for reason in reasons:
        if isinstance(reason, Mapping) and reason.get("raised_exception"):
            return f"could not be checked: {str(reason.get('exception_message')).strip()}"
    missing = ((outcome.get("details") or {}).get("mismatched") or {}).get("missing")
    if missing:
        return f"missing columns: {', '.join(missing)}"
    share = _bad_share(outcome)
    said = (
        f"found {outcome.get('observed_value')}"
        if share is None
        else f"{share:.2%} of {outcome['element_count']} rows are bad"
    )
    return f"{said}{_wanted(kwargs)}"


def _wanted(kwargs: Mapping[str, Any]) -> str:
    names = ("min_value", "max_value", "value_set", "regex")
    bounds = [f"{n.removesuffix('_value')} {kwargs[n]}" for n in names if kwargs.get(n) is not None]
    if not bounds:
        return ""
    share = kwargs.get("mostly", 1)
    return f", wanted {', '.join(bounds)}" + (f" for {share:.0%} of rows" if share < 1 else "")
