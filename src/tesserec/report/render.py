"""Facts and template -> one HTML file, written atomically."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tesserec import __version__
from tesserec.artifacts import write_atomic
from tesserec.errors import need
from tesserec.report import sections
from tesserec.report.facts import Facts, release_facts, run_facts

log = logging.getLogger(__name__)
PAGE = "report.html"


def run_report(workdir: Path, run_id: str) -> Path:
    """Write `<workdir>/reports/<run_id>/report.html`, however far the run came."""
    out = workdir / "reports" / run_id / PAGE
    _write(run_facts(workdir, run_id), out)
    log.info("report: %s", out)
    return out


def release_report(workdir: Path, name: str, folders: Mapping[str, Path], out: Path) -> Path:
    """Write the report of a release from its artefacts: step name -> folder, up to `evaluate`."""
    _write(release_facts(workdir, name, folders), out)
    return out


def render(template: str, out: Path, **values: Any) -> None:
    """Fill one of the templates and write the page."""
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise need("jinja2", "pipeline") from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tesserec.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["metric"] = metric
    environment.filters["why"] = sections.state_of
    text = environment.get_template(template).render(version=__version__, **values)
    write_atomic(out, text)


def _write(facts: Facts, out: Path) -> None:
    parts, problems = _parts(facts, out)
    render(
        "report.html.j2", out, facts=facts, parts=parts, problems=problems, metrics=sections.METRICS
    )


def _parts(facts: Facts, out: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Every section's data. One that cannot be made says why; the others must still appear."""
    makers = {
        "intake": sections.intake,
        "gates": lambda f: sections.gates(f, out),
        "features": sections.features,
        "codes": sections.codes,
        "training": sections.training,
        "metrics": sections.metrics,
        "rehearsal": sections.rehearsal,
        "examples": sections.examples,
        "steps": sections.steps,
        "config": sections.config_text,
    }
    parts: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for name, make in makers.items():
        try:
            parts[name] = make(facts)
        except Exception as error:  # whatever a broken run holds, its report must appear
            log.warning("the report's section '%s' could not be made", name, exc_info=True)
            parts[name] = None
            problems[name] = f"could not be shown: {type(error).__name__}: {error}"
    return parts, problems


def number(value: Any) -> str:
    """For people: thousands apart, few digits, a dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")
    if isinstance(value, float):
        return f"{value:,.4g}".replace(",", "\u202f") if abs(value) < 1e6 else number(round(value))
    return str(value)


def metric(value: Any) -> str:
    return "–" if value is None else f"{float(value):.4f}"
