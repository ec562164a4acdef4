"""Means over seeds against the plain formula; runs that don't belong together are refused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from tesserec.errors import UsageError
from tesserec.evaluation.metrics import means, ndcg
from tesserec.evaluation.seeds import over_seeds

USERS = 60


def table(seed: int, *, shuffle: bool = False, drop: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    columns: dict[str, np.ndarray] = {"user_id": np.array([f"u{i:02d}" for i in range(USERS)])}
    for name in ("rpg", "popularity"):
        for protocol in ("kept", "dropped"):
            columns[f"{name}_rank_{protocol}"] = rng.integers(0, 51, USERS).astype(np.int32)
    columns["target_freq"] = (np.arange(USERS) % 25).astype(np.int32)
    order = rng.permutation(USERS) if shuffle else np.arange(USERS)
    return pa.table({k: v[order][: USERS - drop] for k, v in columns.items()})


def test_means_deviation_and_pairs() -> None:
    tables = [table(1), table(2, shuffle=True), table(3)]
    found = over_seeds(tables, "rpg", resamples=200, seed=0)
    by_seed = [means(t["rpg_rank_kept"].to_numpy()) for t in tables]
    ours = found["rankers"]["rpg"]["kept"]
    for name in by_seed[0]:
        each = [m[name] for m in by_seed]
        assert ours[name] == pytest.approx(np.mean(each))
        assert ours[f"{name}_sd"] == pytest.approx(np.std(each, ddof=1))
    assert ours["ndcg@10_ci"][0] < ours["ndcg@10"] < ours["ndcg@10_ci"][1]
    gain = np.mean([ndcg(t["rpg_rank_kept"].to_numpy(), 10).mean() for t in tables])
    base = np.mean([ndcg(t["popularity_rank_kept"].to_numpy(), 10).mean() for t in tables])
    assert found["paired"]["popularity"]["kept"]["difference"] == pytest.approx(gain - base)
    assert sum(s["users"] for s in found["slices"]) == USERS
    assert found["slices"][0]["bin"] == "0" and found["slices"][0]["users"] == 3


def test_users_are_matched_by_id() -> None:
    twice = over_seeds([table(4), table(4, shuffle=True)], "rpg", resamples=100, seed=0)
    once = over_seeds([table(4)], "rpg", resamples=100, seed=0)
    assert twice["rankers"]["rpg"]["kept"]["ndcg@10_sd"] == pytest.approx(0, abs=1e-12)
    assert twice["paired"]["popularity"] == once["paired"]["popularity"]


@pytest.mark.parametrize(
    ("tables", "model", "message"),
    [
        ([], "rpg", "no run"),
        ([table(1), table(2, drop=1)], "rpg", "other users"),
        ([table(1)], "sasrec", "no sasrec"),
        ([table(1), table(2).drop_columns("popularity_rank_kept")], "rpg", "other methods"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    tables: list[pa.Table], model: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        over_seeds(tables, model, resamples=100, seed=0)
