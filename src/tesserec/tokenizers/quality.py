"""How good a code table is: use of the centres, collisions, reconstruction, neighbourhoods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_QUERIES = 2000  # items whose neighbours are looked at
_PAIRS = 200_000  # random pairs for the chance level


def usage(codes: np.ndarray, codebook_size: int) -> list[dict[str, float]]:
    """Per digit of codes [N, m]: share of codes in use, entropy (Miller-Madow), largest share."""
    rows = []
    for digit in codes.T:
        counts = np.bincount(digit, minlength=codebook_size)
        share = counts[counts > 0] / max(len(digit), 1)
        plain = float(-(share * np.log2(share)).sum())
        # The plain estimate is too low on few items (Miller 1955).
        corrected = plain + (len(share) - 1) / (2 * max(len(digit), 1) * np.log(2))
        entropy = min(corrected, float(np.log2(max(len(share), 1))))
        rows.append(
            {
                "utilisation": round(len(share) / codebook_size, 6),
                "entropy_bits": round(entropy, 6),
                "normalised_entropy": round(entropy / float(np.log2(codebook_size)), 6),
                "largest_share": round(float(share.max(initial=0.0)), 6),
            }
        )
    return rows


def collisions(codes: np.ndarray) -> dict[str, float | int]:
    """Items that share their whole tuple with another one."""
    _, counts = np.unique(codes, axis=0, return_counts=True)
    shared = int(counts[counts > 1].sum())
    return {
        "unique_tuples": len(counts),
        "items_in_shared_tuples": shared,
        "share": round(1 - len(counts) / max(len(codes), 1), 6),  # (N - unique) / N
        "largest_bucket": int(counts.max(initial=0)),
    }


def reconstruction_error(
    vectors: np.ndarray, decoded: np.ndarray, rows: np.ndarray
) -> float | None:
    """Mean of |x - x'|^2 over some rows, relative to the variance of all rows of `vectors` [N, D].

    A few rows have no stable variance of their own. None: no rows, or vectors that do not vary.
    """
    x = vectors.astype(np.float64)
    variance = float(((x - x.mean(axis=0)) ** 2).sum(axis=1).mean())
    if not len(rows) or variance <= 0:
        return None
    error = float(((x[rows] - decoded) ** 2).sum(axis=1).mean())
    return round(error / variance, 6)


def neighbour_agreement(
    codes: np.ndarray, categories: Sequence[Sequence[str] | None], rng: np.random.Generator
) -> dict[str, float | int | None]:
    """Share of nearest neighbours (most equal digits) in the same leaf category, against chance.

    `categories[i]`: the category paths of row i; two items agree if they have one whole path in
    common. All neighbours at the smallest distance count alike: the order of rows does not matter.
    """
    leaves = [frozenset(c for c in paths or () if c) for paths in categories]
    rows = np.array([i for i, paths in enumerate(leaves) if paths], dtype=np.int64)
    if len(rows) < 2:
        return {"queries": 0, "same_leaf": None, "chance": None}
    known = codes[rows]
    queries = np.arange(len(rows))
    if len(rows) > _QUERIES:
        queries = np.sort(rng.choice(len(rows), _QUERIES, replace=False))
    shares = []
    for query in queries:
        equal = (known == known[query]).sum(axis=1)
        equal[query] = -1
        near = np.flatnonzero(equal == equal.max())
        own = leaves[rows[query]]
        shares.append(np.mean([bool(own & leaves[rows[i]]) for i in near]))
    first = rng.integers(0, len(rows), _PAIRS)
    second = (first + rng.integers(1, len(rows), _PAIRS)) % len(rows)
    pairs = zip(rows[first], rows[second], strict=True)
    chance = sum(not leaves[a].isdisjoint(leaves[b]) for a, b in pairs) / _PAIRS
    return {
        "queries": len(queries),
        "same_leaf": round(float(np.mean(shares)), 6),
        "chance": round(chance, 6),
    }


def quality(
    codes: np.ndarray,
    vectors: np.ndarray,
    trained: np.ndarray,
    categories: Sequence[Sequence[str] | None],
    tokenizer: Any,
    rng: np.random.Generator,
    *,
    reference: Any = None,
    held: np.ndarray | None = None,
    seen: np.ndarray | None = None,
) -> dict[str, Any]:
    """The quality table of a finished code table, as JSON takes it.

    `reference` is a tokenizer of the same settings that was fitted without the training items
    `held`: the error on those is the honest one (`seen`: all vectors as that tokenizer gets them;
    None: `vectors`). On items that a book was fitted on the error is
    too low by a fifth (docs/tokenizers.md), and items outside of training are few and newer, so
    they measure drift, not the tokenizer. A given table has no centres and no errors.
    """
    per_digit = usage(codes, tokenizer.codebook_size)
    train, other = np.flatnonzero(trained), np.flatnonzero(~trained)
    errors: dict[str, Any] = {
        "training_items": None,
        "other_items": None,
        "held_out": None,
        "held_out_items": 0,
    }
    if hasattr(tokenizer, "decode"):
        decoded = tokenizer.decode(codes)
        errors["training_items"] = reconstruction_error(vectors, decoded[train], train)
        errors["other_items"] = reconstruction_error(vectors, decoded[other], other)
        if reference is not None and held is not None:
            own = vectors if seen is None else seen
            met = reference.decode(reference.encode(own[held]))
            errors["held_out"] = reconstruction_error(own, met, held)
            errors["held_out_items"] = len(held)
    centres = tokenizer.centres.shape[1] if hasattr(tokenizer, "centres") else codes.max() + 1
    return {
        "items": len(codes),
        "digits": codes.shape[1],
        "codebook_size": tokenizer.codebook_size,
        "centres": int(centres),
        "training_items": len(train),
        "utilisation": round(float(np.mean([d["utilisation"] for d in per_digit])), 6),
        "normalised_entropy": round(
            float(np.mean([d["normalised_entropy"] for d in per_digit])), 6
        ),
        "per_digit": per_digit,
        "collisions": collisions(codes),
        "reconstruction_error": errors,
        "neighbours": neighbour_agreement(codes, categories, rng),
    }
