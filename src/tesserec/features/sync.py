"""Bringing the feature store up to a `features` artefact: publish, apply, prove, materialize."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from feast import FeatureStore

from tesserec.artifacts import Artifact, write_atomic
from tesserec.data.compute import pc
from tesserec.errors import ServingError
from tesserec.features import apply, proof, publish
from tesserec.features.state import STATE, hash_of, is_same_store, read_state
from tesserec.features.store import SERVICE
from tesserec.locks import exclusive

LOCK = ".sync.lock"
log = logging.getLogger(__name__)


def sync(features: Artifact, folder: Path, template: Path, *, length: int) -> dict[str, Any]:
    """Publish, apply, prove and materialize; every part may be repeated after a kill.

    Args:
        features: the artefact.
        folder: `<workdir>/feature_store`.
        template: the feature_store.yaml of feature_repo/.
        length: of the histories.

    Returns: {service, schema_hash, watermark, rows, proved}: nothing that depends on what the
        store held before.

    Raises:
        DataError: the point-in-time proof failed; nothing was materialized.
        ServingError: the online store did not take the rows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    summary = features.read_json("summary.json")
    with exclusive(folder / LOCK, busy="another run fills the feature store", wait=True):
        text = apply.render(template, folder)
        publish.publish(features, folder)
        cuts = [cut for cut in summary["cuts"].values() if cut is not None]
        with apply.registry(folder) as store:
            schema = apply.apply(store, template.parent, folder)
            proved = proof.prove(store, features.file("sequences"), cuts, length=length)
            done = _materialize_pending(store, folder)
        state = {
            "features": features.key,
            "watermark": summary["watermark"],
            "history_length": length,
            "has_times": summary["has_times"],
            "config": hash_of(text),
            "materialized": done,
        }
        write_atomic(folder / STATE, json.dumps(state, indent=1))
    return {
        "service": SERVICE,
        "schema_hash": schema,
        "watermark": summary["watermark"],
        "rows": {"user_history": summary["users"], "item_profile": summary["items"]},
        "proved": {"users": proved, "cuts": cuts},
    }


def materialize(folder: Path, start: datetime, end: datetime) -> None:
    """Copy the latest `user_history` row of each user within [start, end] to the online store.

    An online row of a later event time stays, so an older snapshot loses nothing. Readers and
    writers of the store may go on meanwhile.

    Raises:
        ServingError: the online store did not take the rows.
    """
    busy = "another run fills the feature store"
    with exclusive(folder / LOCK, busy=busy, wait=True), apply.registry(folder) as store:
        _materialize(store, start, end)


def _materialize(store: FeatureStore, start: datetime, end: datetime) -> None:
    chatter = io.StringIO()  # Feast prints its progress; standard output belongs to the caller
    try:
        with contextlib.redirect_stdout(chatter), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of ibis, about its own DuckDB
            store.materialize(start_date=start, end_date=end, feature_views=["user_history"])
    except Exception as error:  # Feast and its stores raise whatever their clients do
        raise ServingError(f"materializing user_history failed: {error}") from error
    log.debug("feast materialize: %s", chatter.getvalue())


def _materialize_pending(store: FeatureStore, folder: Path) -> list[str]:
    """Materialize the span of the files that never were; all, if the store is another one.

    The files of a killed run are among them. Returns the names of all files that now are.
    """
    files = sorted((folder / publish.OFFLINE / "user_history").glob("*.parquet"))
    done = set(read_state(folder).get("materialized", [])) if is_same_store(folder) else set()
    span = _span([path for path in files if path.name not in done])
    if span:
        _materialize(store, *span)
    return [path.name for path in files]


def _span(files: Sequence[Path]) -> tuple[datetime, datetime] | None:
    """Earliest and latest event time of the rows of some files."""
    low, high = [], []
    for path in files:
        stamps = pq.read_table(path, columns=["event_timestamp"])["event_timestamp"]
        if len(stamps):
            low.append(pc.min(stamps).as_py())
            high.append(pc.max(stamps).as_py())
    if not low:
        return None
    # Feast cuts the bounds down to what its store can say; a second of slack on either side.
    slack = timedelta(seconds=1)
    epoch = datetime.fromtimestamp(0, UTC)
    return max(min(low) - slack, epoch), max(high) + slack
