"""Step `maintain`: codes move within their budget, and the model is tuned on the newest events."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesserec.artifacts import (
    Artifact,
    artifact_key,
    build,
    discard,
    open_artifact,
    write_atomic,
)
from tesserec.config import RunConfig, to_dict
from tesserec.errors import ArtifactError, UsageError
from tesserec.steps.train import watcher

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from tesserec.retokenization.block import Block
    from tesserec.retokenization.maintenance import Maintained
    from tesserec.retokenization.stock import Stock

VERSION = 1
KIND = "maintenance"
TOKENIZED = "rpg"  # the model that codes are the items of; a fusion has it as a part
log = logging.getLogger(__name__)


def run(workdir: Path, config: RunConfig, features: Artifact) -> Artifact:
    """The artefact `maintenance`: `change.json` {release_id, parent, cadence, churn, counts, ...},
    `refresh.json` (the row that the gate looks at), `tokenizer/` and `models/`; the release lies in
    `<workdir>/releases/<id>`. A killed tuning goes on from `<workdir>/checkpoints/<key>`.

    Raises:
        ArtifactError: vectors of the release's items are not there any more.
    """
    from tesserec.release import verify
    from tesserec.retokenization.stock import open_stock

    stock = open_stock(workdir)
    params = {
        "release": stock.release_id,
        "settings": to_dict(config.retokenization),
        "training": to_dict(config.training),
        "seed": config.seed,
    }

    recipe: dict[str, Any] = {"params": params, "parents": [features], "version": VERSION}
    checkpoints = workdir / "checkpoints" / artifact_key(KIND, **recipe)

    def make(folder: Path) -> None:
        _make(folder, workdir, config, stock, features, checkpoints)

    artifact, reused = build(workdir, KIND, make=make, **recipe)
    release_id = artifact.read_json("change.json")["release_id"]
    if reused and release_id and verify(workdir / "releases" / release_id):  # pruned or damaged
        discard(artifact)
        artifact, _ = build(workdir, KIND, make=make, **recipe)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return artifact


def model_until(workdir: Path, stock: Stock) -> int:
    """Seconds: the release's model was trained on events before this time, and on none later."""
    if "model_until" in stock.manifest:
        return int(stock.manifest["model_until"])
    key = stock.manifest["sources"]["features"]
    path = workdir / "artifacts" / f"features-{key}"
    by_time = stock.config.get("split", {}).get("protocol") == "time"
    if by_time and (path / "manifest.json").is_file():
        cut = open_artifact(path).read_json("summary.json")["cuts"].get("train")
        if cut is not None:
            return int(cut)
    return int(stock.manifest["watermark"])


def read_block(features: Artifact, row_of: Mapping[str, int], since: int) -> Block | None:
    """The newest block of the features' events, in rows of `row_of`; None without times."""
    from tesserec.data.splits import load_sequences
    from tesserec.retokenization.block import newest_block

    if features.read_json("summary.json").get("has_times") is False:
        return None
    return newest_block(load_sequences(features), row_of, since=since)


def _make(
    folder: Path,
    workdir: Path,
    config: RunConfig,
    stock: Stock,
    features: Artifact,
    checkpoints: Path,
) -> None:
    import numpy as np

    from tesserec.data.splits import load_sequences
    from tesserec.release.delta import Delta, build_delta
    from tesserec.retokenization import life
    from tesserec.retokenization.churn import churn
    from tesserec.retokenization.health import compared, told
    from tesserec.retokenization.impressions import impressions
    from tesserec.retokenization.ledger import ledger_table
    from tesserec.retokenization.maintenance import CADENCE, maintain
    from tesserec.retokenization.reference import REFERENCE
    from tesserec.retokenization.upkeep import purged, upkept
    from tesserec.retokenization.vectors import item_vectors

    row_of = {item: row for row, item in enumerate(stock.item_ids)}
    block = read_block(features, row_of, model_until(workdir, stock))
    # The same moment when a killed run goes on; not before what was encoded last, for events that
    # were read long ago may be all that there are.
    read_at = int(datetime.fromisoformat(features.manifest["created"]).timestamp())
    now = max(read_at, int(stock.manifest.get("encoded_at", 0)))
    events = None if block is None else (block.rows, block.times)
    shown, counted = impressions(workdir, row_of, events, now=now)
    vectors = np.asarray(item_vectors(workdir, stock))
    seen = None
    if stock.reference is not None:
        seen = np.asarray(item_vectors(workdir, stock, REFERENCE))
    if (workdir / "feature_store").is_dir():  # statistics and profiles of new items too
        from tesserec.features.publish import publish

        publish(features, workdir / "feature_store")
    found = maintain(stock, vectors, seen, shown, config.retokenization)
    home = _save_tokenizer(folder / "tokenizer", stock, found)
    let_go = purged(stock, load_sequences(features), config.features.history_length)
    # of the items that are shown; one that leaves quarantine had a neighbour's code
    active = life.in_status(stock.items, life.ACTIVE)
    moved = churn(stock.codes[active], found.codes[active], shown[active])
    tuning = _tune(folder, workdir, config, stock, found.codes, block, checkpoints)
    rows = np.flatnonzero((found.codes != stock.codes).any(axis=1))
    parts = {"tokenizer": _files(home)}
    if tuning["epochs"]:
        parts[f"models/{TOKENIZED}"] = _files(folder / "models" / TOKENIZED)
    delta = Delta(
        item_patch=upkept(
            stock.items,
            _counts(stock, features),
            activated=found.activated,
            pending=found.pending,
            gone=[entry.row for entry in let_go],
            now=now,
        ),
        code_patch=(rows, found.codes[rows]) if len(rows) else None,
        ledger=ledger_table([*found.entries, *let_go], at=now, cadence=CADENCE),
        parts=parts,
    )
    fields: dict[str, Any] = {"model_until": tuning["until"], "maintained_at": now}
    fields["features"] = features.key
    if tuning["epochs"]:  # else the model is as old as it was
        fields["tuned_at"] = now
    release_id = build_delta(workdir, stock.release_id, delta, cadence=CADENCE, fields=fields)
    before = _health(stock, stock.codes, stock.reference)
    after = _health(stock, found.codes, found.reference)
    names = ("items", "impressions", "digits", "digit_impressions", "by_digit")
    unit = names[:2] if stock.tokenizer.hierarchical else names[2:4]
    refresh = {f"churn_{of}": getattr(moved, n) for of, n in zip(names, unit, strict=False)}
    write_atomic(folder / "refresh.json", json.dumps(refresh | compared(before, after), indent=1))
    change = {
        "release_id": release_id,
        "parent": stock.release_id,
        "cadence": CADENCE,
        "counts": {**found.counts, "purged": len(let_go)},
        "churn": {name: getattr(moved, name) for name in names},
        "impressions_from": counted,
        "tuning": tuning,
        "health": {"before": told(before), "after": told(after)},
        "notes": [f"impressions were counted from {counted}", *_notes(block, tuning)],
    }
    write_atomic(folder / "change.json", json.dumps(change, indent=1))
    log.info("maintained %s: %s", stock.release_id, change["counts"])


def _health(stock: Stock, codes: np.ndarray, reference: Any) -> Any:
    from tesserec.retokenization import life
    from tesserec.retokenization.health import health

    shown = life.in_status(stock.items, life.ACTIVE)
    errors = None if reference is None else reference.errors
    return health(codes[shown], stock.tokenizer.codebook_size, errors)


def _save_tokenizer(home: Path, stock: Stock, found: Maintained) -> Path:
    from tesserec.lineage import keep_lineage, lineage_of
    from tesserec.retokenization.canary import write_canary_codes
    from tesserec.retokenization.reference import FOLDER

    found.tokenizer.save(home)
    keep_lineage(home, lineage_of(stock.home("tokenizer")))  # codes mean what they meant
    write_canary_codes(stock.home("encoder"), found.tokenizer, home)
    if found.reference is not None:
        found.reference.save(home / FOLDER)
    return home


def _files(home: Path) -> dict[str, Path]:
    return {p.relative_to(home).as_posix(): p for p in sorted(home.rglob("*")) if p.is_file()}


def _counts(stock: Stock, features: Artifact) -> dict[str, np.ndarray]:
    """Events of each item by now, as a release keeps them."""
    import numpy as np
    import pyarrow.parquet as pq

    from tesserec.release.build import COUNT_COLUMNS, interaction_counts

    stats = pq.read_table(features.file("item_stats"))
    return {
        name: np.array(interaction_counts(stock.item_ids, stats, name), np.int64)
        for name in COUNT_COLUMNS
    }


def _tune(
    folder: Path,
    workdir: Path,
    config: RunConfig,
    stock: Stock,
    codes: np.ndarray,
    block: Block | None,
    checkpoints: Path,
) -> dict[str, Any]:
    """Tune the model on the block and save it; {epochs, targets, since, until, losses}."""
    from tesserec.lineage import bind_model, lineage_of
    from tesserec.models.loading import model_class
    from tesserec.retokenization.tokens import changed_codes
    from tesserec.training.checkpoint import Checkpoints
    from tesserec.training.tuning import tune

    since = model_until(workdir, stock)
    if block is None or not block.targets:
        return {"epochs": 0, "targets": 0, "since": since, "until": since, "losses": []}
    files = {path.name: path for path in model_paths(stock)}
    model = model_class(TOKENIZED).read(files["model.json"], files["model.safetensors"], codes)
    size = stock.tokenizer.codebook_size
    # Codes depend on what was shown too, which may have grown since a kill.
    recipe = f"{checkpoints.name} {hashlib.sha256(codes.tobytes()).hexdigest()}"
    lines = tune(
        model,
        block.sequences,
        block.starts,
        config.training,
        config.retokenization.tuning,
        seed=config.seed,
        changed=changed_codes(stock.codes, codes, size),
        checkpoints=Checkpoints(checkpoints, recipe=recipe, every_s=config.training.checkpoint_s),
        on_progress=watcher(config, TOKENIZED),
    )
    model.save(folder / "models" / TOKENIZED)
    bind_model(folder / "models" / TOKENIZED / "model.json", lineage_of(stock.home("tokenizer")))
    return {
        "epochs": len(lines),
        "targets": block.targets,
        "since": block.since,
        "until": block.until,
        "losses": [round(line["loss"], 4) for line in lines],
    }


def model_paths(stock: Stock) -> list[Path]:
    """The files of the release's model with codes.

    Raises:
        UsageError: it has none. ArtifactError: a file is missing.
    """
    from tesserec.release.manifest import part_path, parts_of

    entries = stock.manifest["parts"]["models"].get(TOKENIZED)
    if not entries:
        raise UsageError(
            f"release {stock.release_id} has model {stock.manifest['model']}; only {TOKENIZED}, "
            "alone or in a fusion, can be maintained"
        )
    paths = [part_path(stock.folder, part) for part in parts_of(entries)]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise ArtifactError(f"{missing[0]} is missing; run `tesserec release verify`")
    return paths


def _notes(block: Block | None, tuning: dict[str, Any]) -> list[str]:
    if block is None:
        return ["the data have no times, so there is no newest block: the model was not tuned"]
    if not tuning["epochs"]:
        return ["hardly any events are newer than the model: it was not tuned"]
    return []
