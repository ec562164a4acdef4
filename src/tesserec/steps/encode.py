"""Step `encode`: item content -> whitened vectors, one row an item, in the release's row order."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from tesserec.artifacts import Artifact, build
from tesserec.config import RunConfig, to_dict
from tesserec.errors import DataError
from tesserec.steps.catalogue import needs_codes, skipped

VERSION = 3
log = logging.getLogger(__name__)


def run(workdir: Path, config: RunConfig, raw: Artifact, features: Artifact) -> Artifact:
    """Return the `vectors` artefact: `vectors.npy` float32 [N, pca_dim], `item_ids.parquet`,
    `encoder/` (with whitening, canary set and reference encoder), `reference.npy` (the vectors by
    that one) and `summary.json`; with a given code table `codes.npy` in the same order, since the
    raw data is at hand only here. Skipped for a model without codes.

    Raises:
        DataError: the item profile has no rows or no plain row order, or an item has no vector.
    """
    if not needs_codes(config):
        return skipped(workdir, "vectors", config, [raw, features])
    params = to_dict(config.encoder) | {"seed": config.seed}
    if config.tokenizer.name == "given":
        params["codes"] = "given"
    if config.encoder.name == "sentence":
        from tesserec.encoders.sentence import folder_hash

        params["model_hash"] = folder_hash(config.encoder.model)

    def make(folder: Path) -> None:
        _make(folder, config, raw, features)

    return build(
        workdir, "vectors", params=params, parents=[raw, features], version=VERSION, make=make
    )[0]


def read_items(features: Artifact) -> Any:
    """The item profile as an Arrow table in row order: THE order of vectors, codes and release.

    Raises:
        DataError: rows are missing or double.
    """
    import numpy as np
    import pyarrow.parquet as pq

    items = pq.read_table(features.file("item_profile")).sort_by("row")
    rows = items["row"].to_numpy()
    if not len(rows):
        raise DataError(f"{features.path}/item_profile has no items; check the items of the source")
    if not np.array_equal(rows, np.arange(len(rows))):
        raise DataError(
            f"{features.path}/item_profile does not number its {len(rows)} items 0, 1, 2, ...; "
            "delete the artefact and run again"
        )
    return items


def listed_before(items: Any, cut: int | None) -> Any:
    """bool [N]: the items that an encoder may learn from: all, or those listed before the cut.

    Raises:
        DataError: no item was listed before the cut.
    """
    import numpy as np

    if cut is None:
        return np.ones(items.num_rows, bool)
    # Neither listed nor seen (null): nothing says that it existed then, so it is left out.
    listed = items["listed_at"].fill_null(np.iinfo(np.int64).max).to_numpy()
    if not (listed < cut).any():
        raise DataError(
            f"no item was listed before the training cut {cut}; use a larger split.train_share, or "
            "check listed_at of the items"
        )
    return listed < cut


def _make(folder: Path, config: RunConfig, raw: Artifact, features: Artifact) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tesserec.artifacts import write_atomic
    from tesserec.encoders import ContentEncoder
    from tesserec.encoders.whitening import Whitening
    from tesserec.retokenization.canary import write_canary
    from tesserec.retokenization.reference import FOLDER, LEAST, REFERENCE, held_out

    items = read_items(features)
    fitted = listed_before(items, features.read_json("summary.json")["cuts"].get("train"))
    encoder = ContentEncoder(_new_encoder(config, raw), Whitening(config.encoder.pca_dim))
    plain = encoder.fit(items, fitted)
    vectors = encoder.whitening.apply(plain)
    known = items.filter(pa.array(fitted))
    log.info(
        "encoded %d items with %s, fitted on %d", len(vectors), config.encoder.name, len(known)
    )
    np.save(folder / "vectors.npy", vectors, allow_pickle=False)
    rest = fitted & ~held_out(items["item_id"].to_pylist())
    if (fitted & ~rest).sum() >= LEAST and rest.any():
        second = ContentEncoder(_new_encoder(config, raw), Whitening(config.encoder.pca_dim))
        plain = second.fit(items, rest, None if second.encoder.learns else plain)
        np.save(folder / REFERENCE, second.whitening.apply(plain), allow_pickle=False)
        second.save(folder / "encoder" / FOLDER)
    if config.tokenizer.name == "given":
        from tesserec.tokenizers.given import given_codes

        codes = given_codes(raw.file("codes"), items["item_id"].to_pylist())
        np.save(folder / "codes.npy", codes, allow_pickle=False)
    pq.write_table(
        items.select(["item_id"]).replace_schema_metadata(None), folder / "item_ids.parquet"
    )
    encoder.save(folder / "encoder")
    write_canary(folder / "encoder", known, encoder)
    summary = {
        "encoder": config.encoder.name,
        "items": len(vectors),
        "fitted_on": len(known),
        "width": len(encoder.whitening.mean),
        "pca_dim": config.encoder.pca_dim,
        "rank": encoder.whitening.rank,
        "explained_variance": round(encoder.whitening.explained, 6),
        "distinct_vectors": len(np.unique(vectors, axis=0)),
    }
    write_atomic(folder / "summary.json", json.dumps(summary, indent=1))


def _new_encoder(config: RunConfig, raw: Artifact) -> Any:
    from tesserec.encoders import ENCODERS
    from tesserec.errors import UsageError

    settings = config.encoder
    if settings.name not in ENCODERS:
        raise UsageError(f"encoder.name is {settings.name!r}; use one of {', '.join(ENCODERS)}")
    kind = ENCODERS[settings.name]
    if settings.name == "lsa":
        return kind(settings.lsa_dim, config.seed)
    if settings.name == "sentence":
        return kind(settings.model)
    return kind.open(raw.file("vectors"))
