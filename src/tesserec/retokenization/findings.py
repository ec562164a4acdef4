"""What a decision looks at: drift, code health, edits, the model's age, exposure of new items."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tesserec.artifacts import open_artifact
from tesserec.data.compute import pc
from tesserec.data.exposures import read_exposures
from tesserec.release.manifest import read_release, release_folder
from tesserec.retokenization import decision, life
from tesserec.retokenization.decision import Finding
from tesserec.retokenization.drift import FLOORS, alarm, drift, folk_psi
from tesserec.retokenization.health import compared, health
from tesserec.retokenization.ledger import read_ledger
from tesserec.retokenization.reference import REFERENCE
from tesserec.retokenization.stock import Stock
from tesserec.retokenization.vectors import ADDED, SURVEY

LEAST, MOST = 30, 2000  # items that drift is tested on; of more, the newest
EDITED_SHARE = 0.01  # of items whose content no longer fits their code
MODEL_AGE_H = 24.0
REVIEW_DAYS = 180.0  # a tokenizer of this age deserves a look (docs/retokenization.md)
EXPOSED_H = 24.0


def drift_findings(workdir: Path, stock: Stock, waiting: np.ndarray, *, seed: int) -> list[Finding]:
    """New items since the tokenizer was fitted, beside the held-out ones.

    Args:
        waiting: vectors [n, D], by the reference encoder, of new items that have no code yet.
    """
    if stock.reference is None:
        return [_untested("no held-out items")]
    vectors = np.concatenate([*_added(workdir, stock), waiting])[-MOST:]
    if len(vectors) < LEAST:
        return [_untested(f"{len(vectors)} new items")]
    evidence = drift(stock.reference, vectors, np.random.default_rng(seed))
    fires = alarm(evidence)
    found = [
        Finding(f"drift_{e.test}", e.effect, False, e.p, e.null, f"floor {FLOORS.get(e.test)}")
        for e in evidence
    ]
    worst = min(evidence, key=lambda e: e.p)
    text = (
        f"{len(vectors):,} new items drift from the held-out ones ({worst.test}, p {worst.p:.4f})"
    )
    codes, _ = stock.reference.errors_of(vectors)
    folk = folk_psi(stock.reference.codes, codes, stock.tokenizer.codebook_size)
    found.append(Finding("folk_psi", float(np.mean(folk)), False, text="shown, never acted on"))
    return [Finding(decision.DRIFT, worst.effect, fires, worst.p, worst.null, text), *found]


def _untested(reason: str) -> Finding:
    return Finding(decision.DRIFT, 0.0, False, text=f"drift was not tested: {reason}")


def health_finding(stock: Stock) -> Finding:
    """The table as it is beside the one that its base began with."""
    from tesserec.tables import grow_codes

    base = grow_codes(stock.paths("codes")[:1])
    shown = life.in_status(stock.items, life.ACTIVE)
    size = stock.tokenizer.codebook_size
    change = compared(health(base, size, None), health(stock.codes[shown], size, None))
    crowded = change["bucket_ratio"] > 2 and change["largest_bucket"] > 8
    # Collisions alone say nothing: more items collide more, under every policy.
    bad = {
        f"a bucket of {change['largest_bucket']}": crowded,
        f"{change['utilisation_change']:+.3f} codes in use": change["utilisation_change"] < -0.02,
        f"{change['entropy_change']:+.3f} entropy": change["entropy_change"] < -0.02,
    }
    problems = [text for text, found in bad.items() if found]
    text = f"the code table got worse: {', '.join(problems)}" if problems else "as it began"
    return Finding(decision.HEALTH, change["entropy_change"], bool(problems), null=-0.02, text=text)


def edits_finding(stock: Stock) -> Finding:
    """Items whose content moved past their code since codes moved last."""
    entries = read_ledger(stock.paths("ledger"))
    late = entries.filter(pc.greater(entries["at"], stock.manifest.get("maintained_at", 0)))
    beyond = late.filter(
        pc.and_(pc.equal(late["event"], "edited"), pc.match_substring(late["reason"], "moved"))
    )
    count = len(set(beyond["row"].to_pylist()))
    share = count / max(len(stock.codes), 1)
    text = f"{count:,} items were edited beyond their code ({share:.1%})"
    return Finding(decision.EDITS, share, share > EDITED_SHARE, null=EDITED_SHARE, text=text)


def age_findings(
    workdir: Path, stock: Stock, files: list[list[str]], log_hash: str | None, *, now: int
) -> list[Finding]:
    """The model's age, if there are events that it doesn't know, and the tokenizer's.

    Args:
        files: name and sha256 of each source file now. log_hash: of the event log; None: empty.
    """
    # a maintain that found too few events to tune on is not due again at once
    made = stock.manifest.get("maintained_at")
    base = base_manifest(workdir, stock)
    born = datetime.fromisoformat(base["created"]).timestamp()
    hours = (now - (made if made is not None else born)) / 3600
    stale = hours >= MODEL_AGE_H and _events_changed(workdir, stock, files, log_hash)
    text = f"the model is {hours:.0f} h old"
    if stale:
        text += ", and there are events that it doesn't know"
    days = (now - born) / 86_400
    review = f"the tokenizer is {days:.0f} days old; compare it with a rebuild"
    return [
        Finding(decision.MODEL_AGE, hours, stale, null=MODEL_AGE_H, text=text),
        Finding("tokenizer_age_days", days, False, null=REVIEW_DAYS,
                text=review if days > REVIEW_DAYS else ""),
    ]  # fmt: skip


def encoder_finding(stock: Stock, config: Mapping[str, Any]) -> Finding:
    """The configuration asks for another encoder or tokenizer than the release has."""
    mine = stock.config
    other = [
        f"{section}.{key} is {config[section][key]!r}, the release has {mine[section].get(key)!r}"
        for section in ("encoder", "tokenizer")
        for key in config[section]
        if config[section][key] != mine.get(section, {}).get(key) and key != "vectors"
    ]
    text = "; ".join(other) or "as configured"
    return Finding(decision.ENCODER, float(len(other)), bool(other), text=text)


def exposure_finding(workdir: Path, stock: Stock, *, now: int) -> Finding | None:
    """Share of what was shown that new items had, over their share of the items; None: no log."""
    encoded = pc.fill_null(stock.items[life.ENCODED_AT], 0).to_numpy()
    fresh = (encoded > now - EXPOSED_H * 3600) & life.in_status(stock.items, life.ACTIVE)
    row_of = {item: row for row, item in enumerate(stock.item_ids)}
    shown = new = 0
    for batch in read_exposures(workdir, since_ms=int((now - EXPOSED_H * 3600) * 1000)):
        rows = np.array(
            [row_of.get(i, -1) for i in batch.column("item_ids").flatten().to_pylist()], np.int64
        )
        shown += len(rows)
        new += int(fresh[rows[rows >= 0]].sum())
    if not shown or not fresh.any():
        return None
    ratio = (new / shown) / (fresh.sum() / len(fresh))
    text = f"new items had {new / shown:.1%} of what was shown and are {fresh.mean():.1%} of items"
    if ratio < 0.5:
        text += "; raise quota_new"
    return Finding("exposure_ratio_new", float(ratio), False, null=0.5, text=text)


def _added(workdir: Path, stock: Stock) -> list[np.ndarray]:
    """Vectors, by the reference encoder, of items that came since the tokenizer was made."""
    found: list[np.ndarray] = []
    for key in stock.manifest["sources"].get(ADDED, []):
        path = workdir / "artifacts" / f"{SURVEY}-{key}"
        if not (path / "manifest.json").is_file():
            continue  # pruned: what is left is tested
        survey = open_artifact(path)
        if survey.read_json("summary.json")["at"] <= stock.manifest.get("maintained_at", -1):
            continue  # the tokenizer has followed them since
        new = pq.read_metadata(survey.file("new.parquet")).num_rows
        found.append(np.load(survey.file(REFERENCE), allow_pickle=False)[:new])
    return found


def base_manifest(workdir: Path, stock: Stock) -> Mapping[str, Any]:
    """Of the release that the lineage began with; of this one if that is gone."""
    lineage = stock.manifest.get("lineage") or stock.release_id
    if (workdir / "releases" / lineage / "manifest.json").is_file():
        return read_release(release_folder(workdir, lineage))
    return stock.manifest


def _events_changed(
    workdir: Path, stock: Stock, files: list[list[str]], log_hash: str | None
) -> bool:
    """Whether source or log hold other bytes than those that the model was last made of."""
    features = stock.manifest.get("features") or stock.manifest["sources"]["features"]
    path = workdir / "artifacts" / f"features-{features}"
    if not (path / "manifest.json").is_file():
        return True
    raw = open_artifact(path).manifest["parents"][0]
    home = workdir / "artifacts" / raw["id"]
    if not (home / "manifest.json").is_file():
        return True
    params = open_artifact(home).manifest["params"]
    return params["files"] != files or params["log"] != log_hash
