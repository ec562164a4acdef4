"""Step `tokenize`: vectors -> codes, fitted on the items of the training sequences."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from tesserec.artifacts import Artifact, build
from tesserec.config import RunConfig, to_dict
from tesserec.steps.catalogue import needs_codes, skipped

VERSION = 3
log = logging.getLogger(__name__)


def run(workdir: Path, config: RunConfig, vectors: Artifact, features: Artifact) -> Artifact:
    """Return the `codes` artefact: `codes.safetensors`, `item_ids.parquet` (item_id, trained),
    `tokenizer/` (with the canary set's codes and the reference) and `quality.json`. Skipped for a
    model without codes.

    Raises:
        UsageError: an unknown tokenizer, or pca_dim is not a multiple of the digits.
        DataError: no item occurs in a training sequence.
    """
    if not needs_codes(config):
        return skipped(workdir, "codes", config, [vectors, features])
    params = to_dict(config.tokenizer) | {"seed": config.seed, "split": to_dict(config.split)}

    def make(folder: Path) -> None:
        _make(folder, config, vectors, features)

    return build(
        workdir, "codes", params=params, parents=[vectors, features], version=VERSION, make=make
    )[0]


def _make(folder: Path, config: RunConfig, vectors: Artifact, features: Artifact) -> None:
    import numpy as np
    import pyarrow.parquet as pq

    from tesserec.artifacts import write_atomic
    from tesserec.lineage import begin_lineage
    from tesserec.retokenization.canary import write_canary_codes
    from tesserec.retokenization.reference import (
        FOLDER,
        LEAST,
        REFERENCE,
        held_out,
        make_reference,
    )
    from tesserec.steps.encode import read_items
    from tesserec.tokenizers import CodeTable
    from tesserec.tokenizers.quality import quality

    x = np.load(vectors.file("vectors.npy"), allow_pickle=False)
    item_ids = pq.read_table(vectors.file("item_ids.parquet"))["item_id"].to_pylist()
    seen = training_items(features, config)
    trained = np.fromiter((i in seen for i in item_ids), bool, len(item_ids))
    log.info(
        "tokenizer %s, %d of %d items in training",
        config.tokenizer.name,
        trained.sum(),
        len(trained),
    )
    tokenizer = _new_tokenizer(config)
    items = read_items(features)
    if config.tokenizer.name == "given":
        codes = np.load(vectors.file("codes.npy"), allow_pickle=False)
    else:
        tokenizer.fit(x[trained], np.random.default_rng(config.seed))
        codes = tokenizer.encode(x)
        write_canary_codes(vectors.file("encoder"), tokenizer, folder / "tokenizer")
    tokenizer.save(folder / "tokenizer")
    lineage = begin_lineage(
        folder / "tokenizer", codes if config.tokenizer.name == "given" else None
    )
    CodeTable(item_ids, codes, trained).save(folder, lineage)
    rng = np.random.default_rng([config.seed, 1])
    reference, seen = None, x
    held = np.flatnonzero(trained & held_out(item_ids))
    if (
        config.tokenizer.name != "given"
        and len(held) >= LEAST
        and (vectors.path / REFERENCE).is_file()
    ):
        seen = np.load(vectors.file(REFERENCE), allow_pickle=False)
        rest = trained.copy()
        rest[held] = False
        second = _new_tokenizer(config)
        second.fit(seen[rest], rng)
        reference = make_reference(second, [item_ids[row] for row in held.tolist()], seen[held])
    if reference is not None:
        reference.save(folder / "tokenizer" / FOLDER)
    report = quality(
        codes,
        x,
        trained,
        items["categories"].to_pylist(),
        tokenizer,
        rng,
        reference=reference.tokenizer if reference else None,
        held=held,
        seen=seen,
    )
    write_atomic(folder / "quality.json", json.dumps(report, indent=1))


def training_items(features: Artifact, config: RunConfig) -> set[str]:
    """The ids that occur in the training part of any sequence."""
    from tesserec.data.splits import load_sequences, split

    parts = split(load_sequences(features), config.split, features.read_json("summary.json"))
    ends = parts.train_end.tolist()
    return {i for items, end in zip(parts.items, ends, strict=True) for i in items[:end]}


def _new_tokenizer(config: RunConfig) -> Any:
    from tesserec.errors import UsageError
    from tesserec.tokenizers import TOKENIZERS

    settings = config.tokenizer
    if settings.name not in TOKENIZERS:
        raise UsageError(f"tokenizer.name is {settings.name!r}; use one of {', '.join(TOKENIZERS)}")
    return TOKENIZERS[settings.name](settings.digits, settings.codebook_size, settings.iterations)
