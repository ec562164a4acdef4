"""Facts -> what the template shows. Each function returns None where its step was not reached."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tesserec.report import plots
from tesserec.report.facts import GATES, STEPS, Facts, Step
from tesserec.report.slices import NAMES, slices_of_users

METRICS = ("recall@5", "recall@10", "recall@50", "ndcg@5", "ndcg@10", "ndcg@50")
TITLES = {
    "gate_raw": "Raw interactions and items",
    "gate_features": "Features",
    "gate_codes": "Vectors and codes",
    "gate_metrics": "Metrics",
}
SHOWN_QUARANTINED = 5  # rows a reason
YEAR_1980 = 315_532_800  # smaller numbers are positions, in data without times
SHOWN_ITEMS = 10  # of a history and of a list of recommendations


def intake(facts: Facts) -> dict[str, Any] | None:
    """Counts of what came in, and examples of what was refused."""
    step = facts.step("ingest")
    counts = step.json("counts.json")
    if not isinstance(counts, Mapping):
        return None
    known = ("read", "kept", "quarantined", "repaired", "unused_columns")
    tables = [_table_counts(name, counts) for name in ("interactions", "items")]
    return {
        "tables": tables if all(k in counts for k in known[:3]) else [],
        "repaired": flat(counts.get("repaired") or {}),
        "unused": {k: v for k, v in (counts.get("unused_columns") or {}).items() if v},
        "files": [f"{f['name']} ({f['bytes']:,} bytes)" for f in counts.get("files") or []],
        "others": flat({k: v for k, v in counts.items() if k not in (*known, "files")}),
        "quarantine": _quarantine(step.path("quarantine.parquet")),
    }


def _table_counts(table: str, counts: Mapping[str, Any]) -> dict[str, Any]:
    refused = (counts.get("quarantined") or {}).get(table) or {}
    return {
        "table": table,
        "read": (counts.get("read") or {}).get(table),
        "kept": (counts.get("kept") or {}).get(table),
        "refused": sum(refused.values()) if isinstance(refused, Mapping) else refused,
    }


def _quarantine(path: Path | None) -> list[dict[str, Any]]:
    """One entry a (table, reason), most frequent first, with a few rows each."""
    if path is None:
        return []
    import pyarrow.parquet as pq

    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for row in (r for batch in pq.ParquetFile(path).iter_batches() for r in batch.to_pylist()):
        key = (row["table"], row["reason"])
        group = groups.setdefault(
            key, {"table": key[0], "reason": key[1], "rows": 0, "examples": []}
        )
        group["rows"] += 1
        if len(group["examples"]) < SHOWN_QUARANTINED:
            place = f"{row['file']}, row {row['row']} (from 0, no header)"
            group["examples"].append({"place": place, "record": _short(row["record"], 200)})
    return sorted(groups.values(), key=lambda g: (-g["rows"], g["table"], g["reason"]))


def gates(facts: Facts, out: Path) -> list[dict[str, Any]]:
    """Every gate: reached or not, its verdict, and the way to its Data Docs from `out`'s folder."""
    found = []
    for name in GATES:
        step = facts.step(name)
        verdict = step.json("verdict.json")
        docs = None if facts.release else step.path("data_docs/index.html")
        found.append(
            {
                "name": name,
                "title": TITLES[name],
                "step": step,
                "verdict": verdict,
                "docs": os.path.relpath(docs, out.parent) if docs else None,
                "comparisons": _comparisons(step.json("comparison.json") or {}),
                "failed": [_failed(f) for f in (verdict or {}).get("failed_expectations", [])],
            }
        )
    return found


def _comparisons(found: Mapping[str, Any]) -> list[str]:
    """The metric gate's one-row tables as sentences."""
    tables: Mapping[str, Any] = found.get("tables") or {}
    said = []
    for row in tables.get("against_popularity") or []:
        said.append(
            f"NDCG@10 {row['model']:.4f} against popularity's {row['popularity']:.4f}: "
            f"{row['difference']:+.4f} ({_span(row, '{:+.4f}')})"
        )
    for row in tables.get("against_promoted") or []:
        said.append(
            f"Recall@10 {row['model']:.4f} against {row['promoted']:.4f} of {found['promoted']}: "
            f"{row['relative']:+.1%} ({_span(row, '{:+.1%}')})"
        )
    return said


def _span(row: Mapping[str, Any], form: str) -> str:
    if row.get("low") is None or row.get("high") is None:
        return "no interval"
    return f"95 %: {form.format(row['low'])} to {form.format(row['high'])}"


def _failed(failed: Mapping[str, Any]) -> dict[str, Any]:
    shown = [
        e if isinstance(e, str) else json.dumps(e, ensure_ascii=False)
        for e in failed.get("examples", [])
    ]
    rule = str(failed["expectation"]).removeprefix("expect_").replace("_", " ")
    return {**failed, "rule": rule, "examples": [_short(e, 120) for e in shown]}


def features(facts: Facts) -> dict[str, Any] | None:
    summary = facts.step("features").json("summary.json")
    return flat(summary) if isinstance(summary, Mapping) else None


def codes(facts: Facts) -> dict[str, Any] | None:
    """The heat map of the code books and the quality table."""
    step = facts.step("tokenize")
    path = step.path("codes.safetensors")
    if path is None:
        return None
    from safetensors.numpy import load_file

    table = load_file(path)["codes"]
    quality = step.json("quality.json") or {}
    size = int(quality.get("codebook_size") or int(table.max(initial=0)) + 1)
    return {
        "map": plots.code_heat_map(table, size),
        "items": len(table),
        "digits": table.shape[1],
        "size": size,
        "numbers": flat({k: v for k, v in quality.items() if k != "per_digit"}),
        "per_digit": quality.get("per_digit") or [],
    }


def training(facts: Facts) -> dict[str, Any] | None:
    """Curves of `history.jsonl`: the loss, and the validation metrics."""
    path = facts.step("train").path("history.jsonl")
    if path is None:
        return None
    lines = [flat(json.loads(line), plain=True) for line in path.read_text().splitlines() if line]
    history = [_of_part(line) for line in lines if "epoch" in line]
    if not history:
        return None
    keys = sorted({k for h in history for k, v in h.items() if isinstance(v, int | float)})
    losses = [k for k in keys if "loss" in k]
    wanted = ("val_recall@10", "val_recall@50", "val_ndcg@10", "val_ndcg@50")
    metrics = [k for w in wanted for k in keys if k.endswith(w)] or [k for k in keys if "@" in k][
        :4
    ]
    pictures = []
    for chosen, label in ((losses, "loss"), (metrics, "validation")):
        if chosen:
            pictures.append({"uri": plots.curves(history, chosen, label), "label": label})
    epochs = max(h["epoch"] for h in history)
    return {"pictures": pictures, "epochs": epochs, "last": _numbers_at_the_end(lines)}


def _of_part(line: Mapping[str, Any]) -> dict[str, Any]:
    """An epoch of a fusion's part, with the part's name before each figure's."""
    before = f"{NAMES.get(line['part'], line['part'])} " if "part" in line else ""
    return {k if k == "epoch" else before + k: v for k, v in line.items() if k != "part"}


def _numbers_at_the_end(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The last epoch, or how the parts of a fusion were mixed."""
    last = lines[-1]
    shown = {k: v for k, v in last.items() if k not in ("part", "fit.curve")}
    return {k.removeprefix("fit.").removeprefix("blend."): _joined(v) for k, v in shown.items()}


def _joined(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def metrics(facts: Facts) -> dict[str, Any] | None:
    """Rows of the metric table, the release's own first, for seen items kept and dropped."""
    found = facts.step("evaluate").json("metrics.json")
    if not isinstance(found, Mapping):
        return None
    name = str(found.get("model", "model"))
    former = facts.step("gate_metrics").json("comparison.json") or {}
    rows: list[tuple[str, Mapping[str, Any]]] = [(NAMES.get(name, name), found)]
    if former.get("promoted"):
        rows.append((f"before: {former['promoted']}", former))
    baselines: Mapping[str, Any] = found.get("baselines", {})
    rows += [(NAMES.get(b, b), values) for b, values in baselines.items()]
    path = facts.step("evaluate").path("per_user.parquet")
    return {
        "users": found.get("users"),
        "tables": [_metric_table(rows, way) for way in ("kept", "dropped")],
        "slices": slices_of_users(path, name) if path else [],
    }


def _metric_table(rows: Sequence[tuple[str, Mapping[str, Any]]], way: str) -> dict[str, Any]:
    values = [(name, row.get(way) or {}) for name, row in rows]
    best = {
        m: max((v[m] for _, v in values if v.get(m) is not None), default=None) for m in METRICS
    }
    return {
        "way": way,
        "rows": [
            {
                "name": name,
                "cells": [
                    {
                        "value": v.get(m),
                        "best": v.get(m) is not None and v.get(m) == best[m],
                        "interval": v.get(f"{m}_ci"),
                    }
                    for m in METRICS
                ],
            }
            for name, v in values
        ],
    }


def rehearsal(facts: Facts) -> dict[str, Any] | None:
    found = facts.step("rehearse").json("rehearsal.json")
    if not isinstance(found, Mapping):
        return None
    latency = found.get("latency_ms") or {}
    picture = None
    if latency:
        series = {"ms": [float(v) for v in latency.values()]}
        picture = plots.bars(list(latency), series, "milliseconds", "percentile of the answers")
    return {**found, "latency_ms": latency, "uri": picture}


def examples(facts: Facts) -> list[dict[str, Any]] | None:
    """Ten users: history, what came next, what was recommended."""
    found = facts.step("evaluate").json("examples.json")
    if not isinstance(found, list):
        return None
    users = []
    for one in found[:10]:
        target = _titles([one.get("target")])
        recommended = _titles(one.get("recommendations") or [])[:SHOWN_ITEMS]
        users.append(
            {
                "user_id": one.get("user_id"),
                "history": _titles(one.get("history") or [])[-SHOWN_ITEMS:][::-1],
                "length": len(one.get("history") or []),
                "target": target[0] if target else None,
                "recommended": [
                    {"title": t, "hit": bool(target) and t == target[0]} for t in recommended
                ],
            }
        )
    return users


def _titles(entries: Iterable[Any]) -> list[str]:
    names = []
    for entry in entries:
        if isinstance(entry, Mapping):
            entry = entry.get("title") or entry.get("item_id")
        if entry:
            names.append(_short(str(entry), 160))
    return names


def steps(facts: Facts) -> list[dict[str, Any]]:
    """Every step of the pipeline in order, then others that were logged, with a share for a bar."""
    names = [*STEPS, *(n for n in facts.steps if n not in STEPS)]
    longest = max((s.seconds or 0.0 for s in facts.steps.values()), default=0.0) or 1.0
    return [
        {"step": s, "share": (s.seconds or 0.0) / longest} for s in (facts.step(n) for n in names)
    ]


def config_text(facts: Facts) -> str | None:
    import yaml

    if facts.config is None:
        return None
    return yaml.safe_dump(json.loads(json.dumps(facts.config)), sort_keys=False, allow_unicode=True)


def state_of(step: Step) -> str:
    """Why a section is empty."""
    if step.state == "failed":
        return f"{step.name} failed: {step.error}"
    if step.state == "unfinished":
        return f"{step.name} was started and did not end"
    skipped = step.json("skipped.json")
    if isinstance(skipped, Mapping):
        return f"skipped: {skipped.get('reason')}"
    if step.state == "not reached":
        return "not reached"
    return f"{step.name} left nothing to show"


def flat(tree: Mapping[str, Any], *, plain: bool = False, before: str = "") -> dict[str, Any]:
    """Nested keys joined by a dot (`plain`) or by a space with underscores opened."""
    out: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{before}{'.' if plain else ' '}{key}" if before else str(key)
        if isinstance(value, Mapping):
            out |= flat(value, plain=plain, before=name)
        elif isinstance(value, list | tuple) and not plain:
            if value:
                out[name.replace("_", " ")] = ", ".join(map(str, value))
        elif plain:
            out[name] = value
        elif value is not None:
            out[name.replace("_", " ")] = _time(key, value)
    return out


def _time(key: str, value: Any) -> Any:
    """Seconds since 1970 as a date, where the name says so and the value could be one."""
    named = key in ("watermark", "train") or key.endswith("_time")
    if not named or not isinstance(value, int) or value < YEAR_1980:
        return value
    return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
