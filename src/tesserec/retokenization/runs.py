"""What a run of a re-tokenization did, from the lines that its steps left in `steps.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tesserec.artifacts import MANIFEST

CANARY = "canary"
# Which step or table says no -> what to do; docs/retokenization.md tells more, in this order.
ADVICE = {
    CANARY: "a library, the processor or a file of encoder or tokenizer has changed: restore it; "
    "if the change is wanted, tesserec retokenize rebuild",
    "gate_raw": "the source breaks the data contract: mend it, then run again",
    "gate_features": "the events break the data contract: mend them, then run again",
    "gate_codes": "the new code table is no good: more items or another tokenizer size, then "
    "rebuild again",
    "ledger": "the ledger is not as this version writes it: keep the release that is promoted, "
    "and report the defect",
    "table": "items of the new table have no status or code: keep the release that is promoted, "
    "and report the defect",
    "refresh": "codes would move beyond the budget, or the table would get worse: at the third "
    "time, tesserec retokenize rebuild",
    "against_promoted": "the tuned model is worse than the promoted one: wait for more events; at "
    "the third time, tesserec retokenize rebuild",
    "slices": "the tuned model loses in one slice of users or items: wait for more events; at the "
    "third time, tesserec retokenize rebuild",
    "rehearse": "the release answers otherwise in a server than offline: see the log of the run",
    "hand_over": "the release was not taken over and the one before answers: the message says "
    "which ranking differs or what the server refused",
}
AGAIN = "mend what the message says; the same command goes on where this one stopped"
_GATES = ("gate_raw", "gate_features", "gate_codes", "judge", "rehearse", "hand_over")


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The steps of the run that ended, in their order; a torn line is passed over."""
    try:
        lines = (folder / "steps.jsonl").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if record.get("event") == "end":
            found.append(record)
    return found


def artifact_json(workdir: Path, record: Mapping[str, Any], name: str) -> Any:
    """A JSON file of the artefact that the step made; None: it made none, or it is gone."""
    pointer = record.get("artifact")
    if not pointer:
        return None
    for folder in (Path(pointer["uri"]), workdir / "artifacts" / pointer["id"]):
        if (folder / MANIFEST).is_file() and (folder / name).is_file():
            return json.loads((folder / name).read_text())
    return None


def run_facts(workdir: Path, run_id: str, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """{run_id, cadence, started, ok, failed, gates, canary_ok, canary, waiting, advice, made,
    verdicts, docs, steps}.

    `failed` {step, error, gate} is null after a good run; `made` has what each change counted,
    `verdicts` what each suite checked, `docs` where its Data Docs lie in the workdir.
    """
    try:
        run = json.loads((workdir / "reports" / run_id / "run.json").read_text())
    except (OSError, json.JSONDecodeError):
        run = {}
    failed = next((r for r in records if r.get("error")), None)
    survey = [artifact_json(workdir, r, "summary.json") for r in records if r["step"] == "survey"]
    found: dict[str, Any] = survey[-1] if survey and survey[-1] else {}
    off = failed is not None and failed["step"] == "survey" and _is_gate(failed)
    gates = _gates(workdir, records)
    if survey:
        gates = {CANARY: not off, **gates}
    return {
        "run_id": run_id,
        "cadence": run.get("arguments", {}).get("cadence", "unknown"),
        "started": run.get("started"),
        "ok": failed is None and bool(records),
        "failed": failed
        and {"step": failed["step"], "error": failed["error"], "gate": _is_gate(failed)},
        "gates": gates,
        "canary_ok": not off if survey else None,
        "canary": found.get("canary"),
        "waiting": _waiting(records, found),
        "advice": _advice(workdir, failed) if failed else None,
        "made": _made(workdir, records),
        "verdicts": _verdicts(workdir, records),
        "docs": [
            {"gate": r["step"], "path": f"artifacts/{r['artifact']['id']}/data_docs/index.html"}
            for r in records
            if r["step"] in _GATES and r.get("artifact")
        ],
        "steps": [
            {key: record.get(key) for key in ("step", "seconds", "reused", "error")}
            for record in records
        ],
    }


def _is_gate(record: Mapping[str, Any]) -> bool:
    return record.get("error_type") == "GateFailed"


def _gates(workdir: Path, records: Sequence[Mapping[str, Any]]) -> dict[str, bool]:
    """Whether each gate of the run passed; of one that was asked twice, both times."""
    found: dict[str, bool] = {}
    for record in records:
        if record["step"] in _GATES and (not record.get("error") or _is_gate(record)):
            ok = not record.get("error")
            found[record["step"]] = found.get(record["step"], True) and ok
    return found


def _waiting(records: Sequence[Mapping[str, Any]], survey: Mapping[str, Any]) -> int | None:
    """New items that were found and not handed over; None: nobody looked."""
    if not survey:
        return None
    handed = any(r["step"] == "hand_over" and not r.get("error") for r in records)
    return 0 if handed else int(survey["new"])


def _advice(workdir: Path, failed: Mapping[str, Any]) -> str:
    step = failed["step"]
    if not _is_gate(failed):
        return AGAIN
    if step == "survey":
        return ADVICE[CANARY]
    verdict = artifact_json(workdir, failed, "verdict.json") or {}
    tables = [
        one["table"]
        for one in verdict.get("failed_expectations", [])
        if one["severity"] == "critical"
    ]
    return next((ADVICE[name] for name in [*tables, step] if name in ADVICE), AGAIN)


def _made(workdir: Path, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for record in records:
        change = artifact_json(workdir, record, "change.json")
        if change and record["step"] in ("extend", "maintain", "rebuild"):
            keys = ("cadence", "release_id", "parent", "counts", "notes")
            found.append({key: change.get(key) for key in keys})
    return found


def _verdicts(workdir: Path, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for record in records:
        verdict = artifact_json(workdir, record, "verdict.json")
        if verdict:
            failed = [
                {key: one[key] for key in ("table", "column", "expectation", "severity", "message")}
                for one in verdict["failed_expectations"]
            ]
            keys = ("passed", "checked", "rows")
            found.append(
                {"gate": record["step"], **{k: verdict[k] for k in keys}, "failed": failed}
            )
    return found
