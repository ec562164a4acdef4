"""Step `survey`: the source beside the promoted release, and the vectors of what is new in it."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesserec.artifacts import Artifact, build, sha256_of, write_atomic
from tesserec.config import RunConfig
from tesserec.retokenization.reference import REFERENCE

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from tesserec.data.listing import Listing
    from tesserec.retokenization.stock import Stock

VERSION = 1
log = logging.getLogger(__name__)


def run(workdir: Path, config: RunConfig, *, items: str = "") -> Artifact:
    """Check the canary set, read the source and encode what is new or edited.

    The artefact `survey`: `new.parquet`, `changed.parquet`, `seen.npy`, `vectors.npy` and
    `reference.npy` float32 [new + changed, D] (NaN: the content is what it was),
    `item_ids.parquet` of these, `quarantine.parquet` (refused rows) and `summary.json` {parent, at,
    whole, canary, read, refused}. The same release and the same source give the same artefact, so a
    run that was killed goes on with it, with the same `at`. The canary set is looked at each time.

    Args:
        items: a file of new and edited items alone; "": the configured source, which lists all.

    Raises:
        UsageError, ArtifactError: see `open_stock`; or the source has no items.
        GateFailed: the canary set is encoded otherwise than when the release was made.
    """
    from tesserec.data.ingest import open_source
    from tesserec.data.listing import feed
    from tesserec.retokenization import life
    from tesserec.retokenization.canary import check_canary
    from tesserec.retokenization.stock import open_stock

    stock = open_stock(workdir)
    homes = stock.home("encoder"), stock.home("tokenizer")
    canary = check_canary(homes[0], stock.encoder, homes[1], stock.tokenizer)  # in every run
    data = feed(config.data, Path(items)) if items else config.data
    source = open_source(data, config.seed)
    now = int(time.time())
    overdue = life.overdue(stock.items, now).tolist()
    params: dict[str, Any] = {
        "release": stock.release_id,
        "whole": not items,
        "columns": {table: dict(names) for table, names in data.columns.items()},
        "list_separator": data.list_separator,
        "max_bad_share": data.max_bad_share,
        "files": [[path.name, sha256_of(path)] for path in source.files()],
        "shop": [config.data.generated_items, config.seed] if not source.files() else None,
        "vectors": _vectors_hash(config),
        "overdue": overdue,  # what hangs on the time of day
    }

    def make(folder: Path) -> None:
        _make(folder, config, stock, source, {"at": now, "whole": not items, "canary": canary})

    return build(workdir, "survey", params=params, parents=[], version=VERSION, make=make)[0]


@dataclass(frozen=True)
class Survey:
    """A `survey` artefact, read."""

    listing: Listing
    vectors: np.ndarray  # float32 [new + changed, D]
    seen: np.ndarray  # the same by the reference encoder
    summary: dict[str, Any]


def read_survey(artifact: Artifact) -> Survey:
    import numpy as np
    import pyarrow.parquet as pq

    from tesserec.data.listing import Listing

    changed = pq.read_table(artifact.file("changed.parquet"))
    summary = artifact.read_json("summary.json")
    listing = Listing(
        new=pq.read_table(artifact.file("new.parquet")),
        changed=changed.drop_columns(["edited"]),
        edited=np.asarray(changed["edited"].to_numpy(), bool),
        seen=np.load(artifact.file("seen.npy"), allow_pickle=False),
        places=np.zeros(0, np.int64),
        read=summary["read"],
        refused=summary["refused"],
    )
    vectors, seen = (
        np.load(artifact.file(name), allow_pickle=False) for name in ("vectors.npy", REFERENCE)
    )
    return Survey(listing, vectors, seen, summary)


def _make(folder: Path, config: RunConfig, stock: Stock, source: Any, told: dict[str, Any]) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tesserec.data.listing import read_listing

    listing = read_listing(source, config.data, stock.items, folder)
    listing, vectors, seen = encode(stock, config, listing)
    both = _both(listing)
    pq.write_table(listing.new, folder / "new.parquet", compression="zstd")
    changed = listing.changed.append_column("edited", pa.array(listing.edited, pa.bool_()))
    pq.write_table(changed, folder / "changed.parquet", compression="zstd")
    pq.write_table(both.select(["item_id"]), folder / "item_ids.parquet", compression="zstd")
    np.save(folder / "seen.npy", listing.seen, allow_pickle=False)
    np.save(folder / "vectors.npy", vectors, allow_pickle=False)
    np.save(folder / REFERENCE, seen, allow_pickle=False)
    summary = {
        "parent": stock.release_id,
        **told,
        "read": listing.read,
        "refused": listing.refused,
        "new": listing.new.num_rows,
        "changed": listing.changed.num_rows,
        "edited": int(listing.edited.sum()),
    }
    write_atomic(folder / "summary.json", json.dumps(summary, indent=1))
    log.info("survey of %d rows: %s", listing.read, summary)


def encode(
    stock: Stock, config: RunConfig, listing: Listing
) -> tuple[Listing, np.ndarray, np.ndarray]:
    """The listing without items that have no vector, and the vectors [new + changed, D] of the
    rest by the release's encoder and by its reference encoder (the same where it has none); NaN
    for one whose content is what it was."""
    import numpy as np

    encoder, second = stock.encoder, stock.reference_encoder
    raw = None
    if encoder.encoder.name == "precomputed":
        listing, raw = _given_vectors(config, listing)
    asked = listing.to_encode
    vectors = np.full((len(asked), encoder.whitening.dim), np.nan, np.float32)
    seen = vectors
    if not asked.any():
        return listing, vectors, seen
    items = _both(listing).filter(asked)
    plain = encoder.encoder.encode(items) if raw is None else raw
    vectors[asked] = encoder.whitening.apply(plain)
    if second is not None:
        seen = vectors.copy()
        again = second.encoder.encode(items) if second.encoder.learns else plain
        seen[asked] = second.whitening.apply(again)
    return listing, vectors, seen


def _given_vectors(config: RunConfig, listing: Listing) -> tuple[Listing, np.ndarray]:
    """Raw vectors of the items to encode; an item without one is refused for itself alone."""
    import numpy as np

    from tesserec.data.vectors import find_vectors, vectors_file

    path = vectors_file(Path(config.data.path), config.encoder.vectors)
    wanted = listing.to_encode
    ids = _both(listing)["item_id"].combine_chunks().filter(wanted)
    raw, missing = find_vectors(path, ids, listing.places[wanted], listing.read)
    unusable = np.zeros(len(wanted), bool)
    unusable[np.flatnonzero(wanted)[missing]] = True
    return listing.without(unusable, f"no vector in {path.name}"), raw[~missing]


def _both(listing: Listing) -> pa.Table:
    import pyarrow as pa

    return pa.concat_tables([listing.new, listing.changed.select(listing.new.column_names)])


def _vectors_hash(config: RunConfig) -> str | None:
    if config.encoder.name != "precomputed":
        return None
    from tesserec.data.vectors import vectors_file

    return sha256_of(vectors_file(Path(config.data.path), config.encoder.vectors))
