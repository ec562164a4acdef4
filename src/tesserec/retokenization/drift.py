"""Has what comes in drifted away from what the codebook was fitted on? Tests with their nulls.

Both groups, held-out old items and new ones, are seen by a tokenizer that was fitted on neither.
Then nothing but their labels tells them apart if there is no drift, and exchanging the labels at
random gives the null distribution of any statistic, whatever the number of codes or of items. Rules
of thumb do not have that: PSI over 256 codes is above .25 by chance alone (docs/retokenization.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tesserec.retokenization.reference import Reference

PERMUTATIONS = 400
LEVEL = 0.015  # false alarms of all tests together
# Below all of these a difference is too small to act on, however sure it is.
FLOORS = {"psi": 0.02, "entropy": 0.05, "mean": 0.005}
_BINS = 10  # groups of codes of about equal load for the effect of PSI


@dataclass(frozen=True, kw_only=True)
class Coded:
    """One group of items as a tokenizer sees them."""

    codes: np.ndarray  # [n, m]
    errors: np.ndarray  # [n], squared distances to what the codes stand for
    points: np.ndarray  # [n, D], what the codes stand for


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One test: how likely so large a statistic is without drift, and how large it is."""

    test: str  # psi | entropy | ks
    p: float
    effect: float  # psi: over ten groups of codes; entropy: bits lost; ks: largest gap of shares;
    # mean: squared distance of the groups' means, as a share of the variance
    null: float  # 95 % of effects without drift are below


def drift(
    reference: Reference,
    vectors: np.ndarray,
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
) -> list[Evidence]:
    """Evidence that new items of `vectors` [n, D] differ from the reference's held-out ones."""
    tokenizer = reference.tokenizer
    codes, errors = reference.errors_of(vectors)
    held_out = Coded(
        codes=reference.codes, errors=reference.errors, points=tokenizer.decode(reference.codes)
    )
    new = Coded(codes=codes, errors=errors, points=tokenizer.decode(codes))
    return compare(held_out, new, tokenizer.hierarchical, rng, permutations)


def compare(
    held_out: Coded,
    new: Coded,
    hierarchical: bool,
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
) -> list[Evidence]:
    """Evidence of four one-sided permutation tests; [] where a group is empty.

    psi: other codes are in use. entropy: fewer are, more of the same. ks: the errors are others.
    mean: the items lie elsewhere. The first two look at the first level of hierarchical codes,
    and at the mean over the digits of parallel ones: one statistic, so that many digits give no
    more false alarms than one. A region that is new shows a little in each of these digits, and
    most in the mean of what the items' codes stand for (docs/log.md).
    """
    first, second = len(held_out.codes), len(new.codes)
    if not first or not second:
        return []
    pool = np.concatenate([held_out.codes, new.codes])
    usage = _Usage(pool[:, :1] if hierarchical else pool, first)
    gaps = _Gaps(np.concatenate([held_out.errors, new.errors]), first)
    means = _Means(np.concatenate([held_out.points, new.points]), first)

    def statistics(rows: np.ndarray) -> tuple[float, ...]:
        return (*usage.statistics(rows), gaps.statistic(rows), means.statistic(rows))

    seen = statistics(np.arange(first, first + second))
    null = np.array(
        [statistics(rng.permutation(first + second)[:second]) for _ in range(permutations)]
    )
    as_large = (null >= np.array(seen) - 1e-12).sum(axis=0)
    p = (1 + as_large) / (1 + permutations)
    high = np.quantile(null, 0.95, axis=0)
    # PSI over all codes decides its p, PSI over groups of them is its effect.
    columns = {"psi": (0, 1), "entropy": (2, 2), "ks": (3, 3), "mean": (4, 4)}
    return [
        Evidence(test=test, p=float(p[a]), effect=float(seen[b]), null=float(high[b]))
        for test, (a, b) in columns.items()
    ]


def alarm(evidence: list[Evidence]) -> bool:
    """Whether the smallest p is too small for chance, and the difference large enough to act on."""
    large = any(e.effect > FLOORS.get(e.test, np.inf) for e in evidence)
    return large and min(e.p for e in evidence) < LEVEL / len(evidence)


def folk_psi(reference: np.ndarray, new: np.ndarray, codebook_size: int) -> list[float]:
    """PSI by digit over all codes of [n, m] tables: no test, shown beside them.

    The common rule, an alarm above .25, comes from ten bins. Over 256 codes and some hundred items
    it fires without drift (tests/unit/retokenization/test_drift.py).
    """
    found = []
    for a, b in zip(reference.T, new.T, strict=True):
        p = np.bincount(a, minlength=codebook_size) + 0.5
        q = np.bincount(b, minlength=codebook_size) + 0.5
        p, q = p / p.sum(), q / q.sum()
        found.append(float(((q - p) * np.log(q / p)).sum()))
    return found


class _Usage:
    """Statistics of how two groups of the pooled items use the codes, mean over digits.

    Only counts are needed of each relabelling, and logarithms of counts come from tables.
    """

    def __init__(self, codes: np.ndarray, first: int) -> None:
        self.n1, self.n2 = first, len(codes) - first
        self.digits = codes.shape[1]
        flat, width = [], 0
        for column in codes.T:  # codes in use alone, those of all digits numbered on
            used, at = np.unique(column, return_inverse=True)
            flat.append(at + width)
            width += len(used)
        self.flat = np.stack(flat, axis=1)
        self.total = np.bincount(self.flat.ravel(), minlength=width)
        digit_of = np.repeat(np.arange(self.digits), [len(np.unique(c)) for c in codes.T])
        used = np.bincount(digit_of)[digit_of]
        self.d1, self.d2 = self.n1 + used / 2, self.n2 + used / 2
        self.offset = np.log(self.d1 / self.d2)
        self.bins = digit_of * _BINS + _equal_loads(self.total, digit_of, len(codes))
        counts = np.arange(len(codes) + 1, dtype=np.float64)
        self.log = np.log(counts + 0.5)
        self.entropies = counts * np.log2(np.maximum(counts, 1))

    def statistics(self, rows: np.ndarray) -> tuple[float, float, float]:
        """PSI over all codes, PSI over groups of codes, bits of entropy lost; `rows`: the new."""
        new = np.bincount(self.flat[rows].ravel(), minlength=len(self.total))
        old = self.total - new
        ratio = self.log[new] - self.log[old] + self.offset
        fine = ((new + 0.5) / self.d2 - (old + 0.5) / self.d1) @ ratio
        q = np.bincount(self.bins, weights=new, minlength=self.digits * _BINS) + 0.5
        p = np.bincount(self.bins, weights=old, minlength=self.digits * _BINS) + 0.5
        q, p = q / (self.n2 + _BINS / 2), p / (self.n1 + _BINS / 2)
        coarse = (q - p) @ np.log(q / p)
        lost = self._entropy(old, self.n1) - self._entropy(new, self.n2)
        return float(fine) / self.digits, float(coarse) / self.digits, lost

    def _entropy(self, counts: np.ndarray, n: int) -> float:
        """Bits, mean over digits, corrected for few items (Miller and Madow)."""
        plain = np.log2(n) - self.entropies[counts].sum() / n / self.digits
        more = (np.count_nonzero(counts) / self.digits - 1) / (2 * n * np.log(2))
        return float(plain + more)


def _equal_loads(total: np.ndarray, digit_of: np.ndarray, items: int) -> np.ndarray:
    """The group, 0 to 9, of each code: by pooled load, so that the groups favour neither side."""
    order = np.lexsort((total, digit_of))
    before = np.cumsum(total[order]) - total[order] / 2 - digit_of[order] * items
    out = np.empty(len(total), dtype=np.int64)
    out[order] = np.minimum(before * _BINS // items, _BINS - 1)
    return out


class _Gaps:
    """The largest gap between the two groups' distributions of errors (Kolmogorov, Smirnov)."""

    def __init__(self, errors: np.ndarray, first: int) -> None:
        self.order = np.argsort(errors, kind="stable")
        ordered = errors[self.order]
        self.ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))  # of equal errors
        self.n1, self.n2 = first, len(errors) - first

    def statistic(self, rows: np.ndarray) -> float:
        """`rows`: the new ones."""
        label = np.zeros(self.n1 + self.n2, dtype=bool)
        label[rows] = True
        new = np.cumsum(label[self.order])[self.ends]
        old = self.ends + 1 - new
        return float(np.abs(new / self.n2 - old / self.n1).max())


class _Means:
    """How far the two groups' means are apart."""

    def __init__(self, points: np.ndarray, first: int) -> None:
        centred = points - points.mean(axis=0, dtype=np.float64)
        self.points = centred.astype(np.float32)
        self.total = self.points.sum(axis=0, dtype=np.float64)
        self.variance = float((centred**2).sum() / len(points)) or 1.0
        self.n1, self.n2 = first, len(points) - first

    def statistic(self, rows: np.ndarray) -> float:
        """Squared distance as a share of the variance; `rows`: the new ones."""
        new = self.points[rows].sum(axis=0, dtype=np.float64)
        gap = new / self.n2 - (self.total - new) / self.n1
        return float(gap @ gap) / self.variance
