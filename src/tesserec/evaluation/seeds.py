"""One method under several seeds: means over seeds, and an interval over users.

Each run leaves a row a user with the rank of the target by every ranker (`per_user.parquet` of the
`metrics` artefact). Here a user's metric is first averaged over seeds, and users are then drawn
anew: the interval tells of users, the standard deviation of seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tesserec.errors import UsageError
from tesserec.evaluation.bootstrap import interval, paired_difference
from tesserec.evaluation.metrics import NAMES, per_user
from tesserec.evaluation.slices import FREQUENCY_BINS, frequency_bin

PROTOCOLS = ("kept", "dropped")
_RANK = "_rank_kept"
_NDCG = NAMES.index("ndcg@10")


def over_seeds(
    tables: Sequence[pa.Table], model: str, *, resamples: int, seed: int
) -> dict[str, Any]:
    """Join the per-user tables of runs that differ in their seed alone.

    Args:
        tables: columns user_id, target_freq, `<ranker>_rank_kept` and `_rank_dropped` (0: beyond
            the depth), in any order of users.
        model: the ranker that the others are the baselines of.

    Returns:
        seeds, users, `rankers`: {name: {kept, dropped}} with the mean of each metric, `<metric>_sd`
        over seeds and `ndcg@10_ci`; `paired`: {baseline: {kept, dropped}}; slices.

    Raises:
        UsageError: no table, other users, or other rankers in one of them.
    """
    if not tables:
        raise UsageError("no run to average over; name at least one workdir")
    order = [np.argsort(t["user_id"].to_numpy(zero_copy_only=False)) for t in tables]
    tables = [t.take(pa.array(o)) for t, o in zip(tables, order, strict=True)]
    names = [c.removesuffix(_RANK) for c in tables[0].column_names if c.endswith(_RANK)]
    if model not in names:
        raise UsageError(f"the runs rank by {', '.join(names)}; there is no {model} among them")
    for index, table in enumerate(tables[1:], start=2):
        if not table["user_id"].equals(tables[0]["user_id"]):
            raise UsageError(f"run {index} was evaluated on other users than run 1; use equal data")
        if any(name + _RANK not in table.column_names for name in names):
            raise UsageError(f"run {index} ranks by other methods than run 1 ({', '.join(names)})")
    values = {n: {p: _values(tables, n, p) for p in PROTOCOLS} for n in names}
    bins = frequency_bin(np.asarray(tables[0]["target_freq"].to_numpy()))
    return {
        "seeds": len(tables),
        "users": tables[0].num_rows,
        "rankers": {
            n: {p: _summary(values[n][p], resamples, seed) for p in PROTOCOLS} for n in names
        },
        "paired": {
            n: {
                p: paired_difference(
                    values[model][p].mean(0)[:, _NDCG],
                    values[n][p].mean(0)[:, _NDCG],
                    resamples=resamples,
                    seed=seed,
                )
                for p in PROTOCOLS
            }
            for n in names
            if n != model
        },
        "slices": [
            {
                "by": "target_training_frequency",
                "bin": name,
                "users": int((bins == index).sum()),
                **{p: _means(values[model][p][:, bins == index]) for p in PROTOCOLS},
            }
            for index, (name, _) in enumerate(FREQUENCY_BINS)
        ],
    }


def _values(tables: Sequence[pa.Table], name: str, protocol: str) -> np.ndarray:
    """float64 [seeds, users, metrics]"""
    return np.stack([per_user(t[f"{name}_rank_{protocol}"].to_numpy()) for t in tables])


def _means(values: np.ndarray) -> dict[str, float]:
    """Of [seeds, users, metrics]; zeros where there is no user."""
    mean = values.mean((0, 1)) if values.shape[1] else np.zeros(len(NAMES))
    return dict(zip(NAMES, mean.tolist(), strict=True))


def _summary(values: np.ndarray, resamples: int, seed: int) -> dict[str, Any]:
    by_seed = values.mean(1)
    spread = by_seed.std(0, ddof=1) if len(by_seed) > 1 else np.zeros(len(NAMES))
    low, high = interval(values.mean(0)[:, _NDCG], resamples=resamples, seed=seed)
    deviations = {f"{n}_sd": s for n, s in zip(NAMES, spread.tolist(), strict=True)}
    return {**_means(values), **deviations, "ndcg@10_ci": [low, high]}
