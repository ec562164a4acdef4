"""The code tables of a replay: what each policy makes of the items of a block.

All of them begin with the table of the base; `retrain` has the tables of `rebuild`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tesserec.artifacts import Artifact
from tesserec.errors import UsageError
from tesserec.evaluation.counts import training_counts
from tesserec.retokenization.alignment import hungarian, renamed, renamed_codes
from tesserec.retokenization.churn import Churn, churn
from tesserec.retokenization.hysteresis import refresh
from tesserec.retokenization.paths import along_paths
from tesserec.retokenization.replay_cells import Bench, Codes, settings
from tesserec.tokenizers import TOKENIZERS

Remake = Callable[[Bench, int, Codes], Codes]


def table_of(bench: Bench, policy: str, block: int) -> Artifact:
    """The table of a policy at the end of a block, fitted on nothing later."""
    policy = "rebuild" if policy == "retrain" else policy
    if block == 0:
        params = {"block": 0, **settings(bench.config, "encoder", "tokenizer")}
        return bench.part(
            "table", params, [], lambda folder: _save(bench, folder, 0, fitted(bench, 0))
        )
    before = table_of(bench, policy, block - 1)
    params: dict[str, Any] = {"block": block, "policy": policy}
    if policy == "hysteresis":
        chosen = bench.config.retokenization
        params |= {"slack": chosen.slack, "passes": chosen.passes}

    def make(folder: Path) -> None:
        made = POLICIES[policy](bench, block, Codes.read(bench, before))
        _save(bench, folder, block, made)

    return bench.part("table", params, [before], make)


def fitted(bench: Bench, block: int) -> Codes:
    """Encoder and tokenizer fitted anew on all items known by the end of a block."""
    items = bench.timeline.items.slice(0, bench.timeline.known(block))
    encoder = bench.new_encoder()
    encoder.fit(items)
    vectors = encoder.encode(items)
    chosen = bench.config.tokenizer
    if chosen.name not in TOKENIZERS or chosen.name == "given":
        raise UsageError(
            f"tokenizer.name is {chosen.name!r}; a replay encodes new items, which takes a "
            "tokenizer that is fitted: use opq or rqkmeans"
        )
    tokenizer = TOKENIZERS[chosen.name](chosen.digits, chosen.codebook_size, chosen.iterations)
    # another seed at each block, as nobody fits the same codebook twice
    tokenizer.fit(vectors, np.random.default_rng([bench.config.seed, block]))
    return Codes(encoder, tokenizer, tokenizer.encode(vectors))


def _frozen(bench: Bench, block: int, old: Codes) -> Codes:
    """P0: new items are encoded, nothing else changes."""
    items = bench.timeline.items.slice(0, bench.timeline.known(block))
    return Codes(old.encoder, old.tokenizer, old.grown(items))


def _rebuild(bench: Bench, block: int, old: Codes) -> Codes:
    """A new lineage; its codes have nothing to do with the old ones."""
    del old
    return fitted(bench, block)


def _hysteresis(bench: Bench, block: int, old: Codes) -> Codes:
    """P4: the centres move a little, and old items keep codes that still fit; encoder as before."""
    items = bench.timeline.items.slice(0, bench.timeline.known(block))
    vectors, known = old.encoder.encode(items), len(old.codes)
    chosen = bench.config.retokenization
    tokenizer = old.tokenizer.warm(vectors, chosen.passes)
    kept = refresh(tokenizer, vectors[:known], old.codes, chosen.slack).codes
    return Codes(old.encoder, tokenizer, np.concatenate([kept, tokenizer.encode(vectors[known:])]))


def _aligned(bench: Bench, block: int, old: Codes) -> Codes:
    """P6, P7: a new lineage whose codes have the names of old ones, as far as names can do that."""
    new = fitted(bench, block)
    before, after = old.codes, new.codes[: len(old.codes)]
    if new.tokenizer.hierarchical:
        tokenizer = along_paths(new.tokenizer, before, after)
        return Codes(new.encoder, tokenizer, tokenizer.named(new.codes))
    names = hungarian(before, after, new.tokenizer.centres.shape[1])
    tokenizer = renamed(new.tokenizer, names)
    return Codes(new.encoder, tokenizer, renamed_codes(new.codes, names))


POLICIES: Mapping[str, Remake] = {
    "frozen": _frozen,
    "hysteresis": _hysteresis,
    "rebuild": _rebuild,
    "aligned": _aligned,
}


def _save(bench: Bench, folder: Path, block: int, codes: Codes) -> None:
    codes.save(folder, bench.timeline.item_ids[: bench.timeline.known(block)])


def churn_of(bench: Bench, policy: str, block: int) -> Churn:
    """Of the items that the tables of a block and of the one before have; none at the base.

    Each was shown as often as it was had in the block.
    """
    timeline = bench.timeline
    tables = [table_of(bench, policy, max(b, 0)) for b in (block - 1, block)]
    old, new = (Codes.read(bench, table).codes for table in tables)
    ends = zip(timeline.rows, timeline.ends(block - 1), timeline.ends(block), strict=True)
    had = training_counts([rows[start:end] for rows, start, end in ends], timeline.known(block))
    return churn(old, new[: len(old)], had[: len(old)].astype(np.float64))
