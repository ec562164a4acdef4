"""The facts of freshness in Prometheus' text format, for a node exporter's textfile collector.

Moments are told, not ages: `time() - metric` is right however long ago the last run was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tesserec.retokenization.lags import HOPS, QUANTILES

PREFIX = "tesserec_retokenization_"
HELP = {
    "run_timestamp_seconds": "When the last run ended.",
    "run_ok": "1 if the last run did what it was asked to, 0 if a gate or an error stopped it.",
    "canary_ok": "0 if the canary set was encoded otherwise than before; 1 if it was as before.",
    "gate_ok": "0 for each gate of the last run that said no, 1 for one that passed.",
    "waiting_items": "New items of the source that the last run did not bring into a release.",
    "lag_seconds": "Percentiles of the lag of new items promoted in the last day, by hop.",
    "lag_items": "Items that lag_seconds was taken from.",
    "churn_share": "Share of items, impressions or digits whose codes differ from the parent's.",
    "churn_digit_share": "The same by digit, numbered from 0.",
    "utilisation_share": "Share of a digit's codes in use.",
    "entropy_share": "Entropy of a digit's codes, corrected for few items, as a share of the most.",
    "collision_share": "Share of new and of old items whose tuple an old item has.",
    "quarantined_items": "Items in quarantine.",
    "quarantine_oldest_timestamp_seconds": "Since when the oldest is in quarantine; absent: none.",
    "release_timestamp_seconds": "When the promoted release was made.",
    "model_timestamp_seconds": "When its model was last trained or tuned.",
    "tokenizer_timestamp_seconds": "When its tokenizer was fitted.",
    "release_info": "1; the labels name the promoted release and the cadence that made it.",
    "drift_p": "p of each test of drift against held-out items.",
    "drift_effect": "Effect of each test.",
    "drift_null": "The effect that 95 % of draws without drift stay below.",
    "drift_alarm": "1 if the tests together call it drift.",
    "exposure_ratio_new": "Share of answers that new items had, over their share of items.",
    "rollback_drill_ok": "1 if the release before could be promoted now, 0 if not; absent: none.",
    "rollback_drill_seconds": "How long the drill took.",
    "rollback_drill_timestamp_seconds": "When the drill was.",
}
Sample = tuple[dict[str, str], float]


def textfile(facts: Mapping[str, Any]) -> str:
    """The file's text: HELP, TYPE and samples of each metric that is known."""
    lines = []
    for name, samples in _samples(facts).items():
        shown = [(labels, value) for labels, value in samples if value is not None]
        if not shown:
            continue
        lines += [f"# HELP {PREFIX}{name} {HELP[name]}", f"# TYPE {PREFIX}{name} gauge"]
        lines += [f"{PREFIX}{name}{_labels(labels)} {_number(value)}" for labels, value in shown]
    return "\n".join(lines) + "\n"


def _samples(facts: Mapping[str, Any]) -> dict[str, list[Sample]]:
    run, lag = facts["run"], facts.get("lag", {})
    hops, age = lag.get("hops", {}), facts.get("age", {})
    churn, codes = facts.get("churn", {}), facts.get("codes", {})
    after = codes.get("after", {})
    drill, drift = facts.get("rollback_drill", {}), facts.get("drift", {})
    tests = drift.get("tests", [])
    quarantine, collisions = facts.get("quarantine", {}), facts.get("collisions", {})
    known = {"release_id": str(facts["release_id"]), "cadence": str(age.get("cadence"))}
    drilled = drill.get("ok") is not None
    return {
        "run_timestamp_seconds": [({}, facts["at"])],
        "run_ok": [({"cadence": run["cadence"]}, run["ok"])],
        "canary_ok": [({}, run["canary_ok"])],
        "gate_ok": [({"gate": name}, ok) for name, ok in run["gates"].items()],
        "waiting_items": [({}, run["waiting"])],
        "lag_seconds": [
            ({"hop": hop, "percentile": name.removeprefix("p")}, hops[hop][name])
            for hop in HOPS
            for name in QUANTILES
            if hop in hops
        ],
        "lag_items": [({"hop": hop}, hops[hop]["items"]) for hop in HOPS if hop in hops],
        "churn_share": [
            ({"of": of}, churn.get(of))
            for of in ("items", "impressions", "digits", "digit_impressions")
        ],
        "churn_digit_share": _by_digit(churn.get("by_digit", [])),
        "utilisation_share": _by_digit(after.get("utilisation", [])),
        "entropy_share": _by_digit(after.get("entropy", [])),
        "collision_share": [({"items": who}, collisions.get(who)) for who in ("new", "old")],
        "quarantined_items": [({}, quarantine.get("size"))],
        "quarantine_oldest_timestamp_seconds": [({}, quarantine.get("oldest_at"))],
        "release_timestamp_seconds": [({}, age.get("release_at"))],
        "model_timestamp_seconds": [({}, age.get("model_at"))],
        "tokenizer_timestamp_seconds": [({}, age.get("tokenizer_at"))],
        "release_info": [(known, 1)] if facts["release_id"] else [],
        "drift_p": [({"test": t["test"]}, t["p"]) for t in tests],
        "drift_effect": [({"test": t["test"]}, t["effect"]) for t in tests],
        "drift_null": [({"test": t["test"]}, t["null"]) for t in tests],
        "drift_alarm": [({}, drift["fires"])] if tests else [],
        "exposure_ratio_new": [({}, facts.get("exposure", {}).get("ratio"))],
        "rollback_drill_ok": [({}, drill["ok"])] if drilled else [],
        "rollback_drill_seconds": [({}, drill["seconds"])] if drilled else [],
        "rollback_drill_timestamp_seconds": [({}, drill["at"])] if drilled else [],
    }


def _by_digit(values: list[float]) -> list[Sample]:
    return [({"digit": str(digit)}, value) for digit, value in enumerate(values)]


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    escaped = {
        name: value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        for name, value in labels.items()
    }
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "}"


def _number(value: float) -> str:
    value = float(value)
    if math.isnan(value):
        return "NaN"
    return str(int(value)) if value == int(value) else repr(value)
