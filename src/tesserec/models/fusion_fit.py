"""How a fusion's parts are to be mixed, by what users of the validation did next.

Temperatures by likelihood: a sum of m log-probabilities is up to m times too sure of itself, and
the two parts' scores are to mean the same where an item has only one of them. Then the weight by
NDCG@10; a weight for each length of history only if that also holds on users it wasn't fitted on.

Legend of shapes: N items, B users of a block, U users, G weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tesserec.errors import TesserecError
from tesserec.evaluation.metrics import ndcg
from tesserec.models.fusion import BLOCK, Blend, Fusion, FusionScorer, State, mix

TEMPERATURES = tuple(2 ** (k / 2) for k in range(-4, 13))  # 0.25 to 64
WEIGHTS = tuple(round(0.05 * k, 2) for k in range(21))
BOUNDS = (4, 8, 16)  # items of a history
SMALLEST = 200  # users that a weight of their own needs
BUDGET = 2**28  # scores looked at: 22,000 users of 12,000 items, 268 of a million
LEAST = 500  # users, whatever that costs
USERS = 64  # at once


@dataclass(frozen=True)
class Fit:
    """A blend, and what it was chosen by."""

    blend: Blend
    users: int
    ndcg: float  # NDCG@10 of the blend on these users, seen items kept
    curve: tuple[float, ...]  # NDCG@10 of each of WEIGHTS alone


def fit(
    content: Any,
    identity: Any,
    codes: np.ndarray,
    histories: Sequence[np.ndarray],
    targets: np.ndarray,
    *,
    seed: int = 0,
) -> Fit:
    """Fit a blend of two trained parts on validation cases.

    Args:
        histories: item rows, oldest first. targets: int64 [U] item rows; -1 is no item.

    Raises:
        TesserecError: no case has a history and a target.
    """
    usable = np.array([i for i, h in enumerate(histories) if len(h) and targets[i] >= 0], np.int64)
    if not len(usable):
        raise TesserecError(
            "no user has a validation target: a fusion's weights are fitted on them; "
            "check the split, or train one of the parts alone"
        )
    users = max(BUDGET // max(len(codes), 1), LEAST)
    if len(usable) > users:
        usable = np.sort(np.random.default_rng(seed).choice(usable, users, replace=False))
    asked, wanted = [histories[i] for i in usable], targets[usable]
    plain = Fusion(
        content, identity, codes, Blend(temperatures=(1.0, 1.0), bounds=(), weights=(0.5,))
    )
    temperatures = _temperatures(plain, asked, wanted)
    blend = Blend(temperatures=temperatures, bounds=(), weights=(0.5,))
    gains = _gains(Fusion(content, identity, codes, blend), asked, wanted)
    lengths = plain.lengths(asked)
    bounds, weights = _weights(gains, lengths)
    blend = Blend(temperatures=temperatures, bounds=bounds, weights=weights)
    chosen = np.searchsorted(bounds, lengths, "right")
    places = np.array([WEIGHTS.index(w) for w in weights])[chosen]
    ours = float(gains[places, np.arange(len(asked))].mean())
    return Fit(blend, len(asked), ours, tuple(gains.mean(1).tolist()))


def _temperatures(
    model: Fusion, histories: Sequence[np.ndarray], targets: np.ndarray
) -> tuple[float, float]:
    """The temperatures at which the targets are likeliest, part by part."""
    scorer, lengths = model.scorer(), model.lengths(histories)
    known = model.identity.known()
    cost = torch.zeros((2, len(TEMPERATURES)))
    few = max(LEAST, len(histories) // len(TEMPERATURES))  # no more work than the weights' fit
    for part, state in _states(model, histories[:few]):
        total = torch.full((2, len(TEMPERATURES), len(state[0])), -torch.inf)
        own = torch.zeros(2, len(state[0]))
        for start, stop in _item_blocks(scorer):
            for i, scores in enumerate(scorer.raw(state, start, stop)):
                sums = [torch.logsumexp(scores / t, dim=0).cpu() for t in TEMPERATURES]
                total[i] = torch.logaddexp(total[i], torch.stack(sums))
                _pick(own[i], scores, targets[part], start, stop)
        told = torch.from_numpy(known[targets[part]] & (lengths[part] > 0))
        loss = total - own[:, None] / torch.tensor(TEMPERATURES)[:, None]
        cost[0] += loss[0].sum(1)
        cost[1] += loss[1][:, told].sum(1)
    first, second = cost.argmin(1).tolist()
    return TEMPERATURES[first], TEMPERATURES[second]


def _gains(model: Fusion, histories: Sequence[np.ndarray], targets: np.ndarray) -> np.ndarray:
    """NDCG@10 of each weight and user, seen items kept, float [G, U]."""
    scorer, lengths = model.scorer(), model.lengths(histories)
    ranks = np.ones((len(WEIGHTS), len(histories)), dtype=np.int64)
    for part, state in _states(model, histories):
        device = state[0].device
        target = torch.from_numpy(targets[part]).to(device)
        told = torch.from_numpy(lengths[part] > 0).to(device)
        mixes = [torch.where(told, weight, 0.0) for weight in WEIGHTS]
        own = _own(scorer, state, targets[part], mixes)
        for start, stop in _item_blocks(scorer):
            row = torch.arange(start, stop, device=device)[:, None]
            before, itself = row < target, row == target
            content, identity = scorer.logs(state, start, stop)
            for g, weights in enumerate(mixes):
                scores = mix(content, identity, weights, scorer.known[start:stop])
                ahead = (scores > own[g]) | ((scores == own[g]) & before)
                # a target must not stand ahead of itself, should `own` be rounded otherwise
                ranks[g, part] += (ahead & ~itself).sum(0).cpu().numpy()
    return np.stack([ndcg(line, 10) for line in ranks])


def _own(
    scorer: FusionScorer, state: State, targets: np.ndarray, mixes: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """The targets' scores [B] at each of the mixes."""
    content, identity = torch.zeros_like(mixes[0]), torch.zeros_like(mixes[0])
    for start, stop in _item_blocks(scorer):
        if ((targets >= start) & (targets < stop)).any():
            logs = scorer.logs(state, start, stop)
            _pick(content, logs[0], targets, start, stop)
            _pick(identity, logs[1], targets, start, stop)
    known = scorer.known[torch.from_numpy(targets).to(content.device), 0]
    return [mix(content, identity, weights, known) for weights in mixes]


def _weights(gains: np.ndarray, lengths: np.ndarray) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Bounds and weights: one for all, or one a length where that holds on other users too."""
    bins = np.searchsorted(BOUNDS, lengths, "right")
    fold = np.arange(len(lengths)) % 2
    single = several = 0.0
    for half in (0, 1):
        fitted, other = fold != half, np.flatnonzero(fold == half)
        single += gains[_best(gains[:, fitted]), other].sum()
        several += gains[_best_by_bin(gains, bins, fitted)[bins[other]], other].sum()
    if several <= single:
        return (), (WEIGHTS[_best(gains)],)
    best = _best_by_bin(gains, bins, np.ones(len(bins), dtype=bool))
    return BOUNDS, tuple(WEIGHTS[g] for g in best)


def _best_by_bin(gains: np.ndarray, bins: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """The best of WEIGHTS for each bin, or that of all users where it has too few of its own."""
    out = np.full(len(BOUNDS) + 1, _best(gains[:, fitted]))
    for place in range(len(out)):
        chosen = fitted & (bins == place)
        if chosen.sum() >= SMALLEST:
            out[place] = _best(gains[:, chosen])
    return out


def _best(gains: np.ndarray) -> int:
    """The middle one of the three neighbouring weights that are best together: less by chance."""
    means = np.pad(gains.mean(1), 1, mode="edge")
    return int((means[:-2] + means[1:-1] + means[2:]).argmax())


def _states(model: Fusion, histories: Sequence[np.ndarray]) -> Iterator[tuple[slice, State]]:
    for start in range(0, len(histories), USERS):
        part = slice(start, min(start + USERS, len(histories)))
        yield part, model.state(histories[part])


def _item_blocks(scorer: FusionScorer) -> Iterator[tuple[int, int]]:
    for start in range(0, scorer.items, BLOCK):
        yield start, min(start + BLOCK, scorer.items)


def _pick(
    own: torch.Tensor, scores: torch.Tensor, targets: np.ndarray, start: int, stop: int
) -> None:
    """Write the targets' scores, as far as they lie in this block [n, B], into `own` [B]."""
    inside = np.flatnonzero((targets >= start) & (targets < stop))
    own[inside] = scores[targets[inside] - start, inside].to(own.device)
