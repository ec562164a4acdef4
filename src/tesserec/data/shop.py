"""The generated shop: how its catalogue is laid out and how its customers choose.

An item is a place in a ring of complementary leaves (pan, lid, ladle, ...), a collection (a look)
and a brand; all three stand in its text. A customer walks the ring of a department, keeps to a
collection for a while, drifts to another one, and likes what was listed recently. So the next item
follows from the *leaf of the last item* and the *collection of the last few*: a model that reads
content generalises from one item to another, while counts of pairs are spread thin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tesserec.data.shop_words import AUDIENCES, BRANDS, COLLECTIONS, DEPARTMENTS

START = 1_704_067_200  # 2024-01-01 00:00 UTC
DAY = 86_400
YEAR = 365 * DAY
RING = 8  # leaves of a department
ITEMS_A_DEPARTMENT = 400
BRANDS_A_DEPARTMENT = 5
LONG_USERS = 0.01  # share of customers with 55 to 110 events

STEP_ON, SKIP_ONE = 0.82, 0.08  # moves along the ring; the rest lands anywhere in it
KEEP_COLLECTION, DRIFT_COLLECTION = 0.92, 0.05  # this event's; for good
KEEP_BRAND, DRIFT_DEPARTMENT, FASHION = 0.15, 0.05, 0.05
SAME_BASKET = 0.08  # share of events at the very second of the event before


@dataclass(frozen=True)
class Catalogue:
    """Latent attributes of the items, all of shape [N], in order of listing."""

    leaf: np.ndarray  # department * RING + place in the ring
    collection: np.ndarray
    brand: np.ndarray  # index into BRANDS
    listed_at: np.ndarray  # int64 seconds
    launch: np.ndarray  # [collections] seconds from which a collection exists
    departments: int


def lay_out(items: int, rng: np.random.Generator, novel: float = 0.0) -> Catalogue:
    """Draw the catalogue: two thirds are listed before the year begins, the rest during it.

    `novel`: share of the leaves that open in the last 40 % of the year, with all of their items.
    """
    departments = int(
        np.clip(round(items / ITEMS_A_DEPARTMENT), 1, len(DEPARTMENTS) * len(AUDIENCES))
    )
    collections = 10 if items < 100_000 else len(COLLECTIONS)
    # All (leaf, collection, brand) cells in random order: every cell fills before one is doubled.
    cells = departments * RING * collections * BRANDS_A_DEPARTMENT
    cell = np.concatenate([rng.permutation(cells) for _ in range(-(-items // cells))])[:items]
    leaf, rest = np.divmod(cell, collections * BRANDS_A_DEPARTMENT)
    collection, brand = np.divmod(rest, BRANDS_A_DEPARTMENT)
    brand = (brand * 7 + (leaf // RING) * 3) % len(BRANDS)
    late = np.arange(collections) >= round(0.7 * collections)
    launch = np.where(late, START + (0.1 + 0.7 * rng.random(collections)) * YEAR, 0).astype(
        np.int64
    )
    old = rng.random(items) < 0.8
    listed = START + np.where(old, -2 * YEAR * rng.random(items), YEAR * rng.random(items))
    during = launch[collection] + 0.5 * rng.random(items) ** 2 * (START + YEAR - launch[collection])
    listed = np.where(launch[collection] > 0, during, listed).astype(np.int64)
    listed[rng.permutation(items)[: max(1, items // 20)]] = START - YEAR  # never an empty shop
    if novel:
        leaves = departments * RING
        late_leaf = rng.permutation(leaves) < round(novel * leaves)
        opening = START + (0.6 + 0.3 * rng.random(leaves)) * YEAR
        left = rng.random(items) ** 2 * (START + YEAR - opening[leaf])
        listed = np.where(late_leaf[leaf], opening[leaf] + 0.5 * left, listed).astype(np.int64)
    order = np.argsort(listed, kind="stable")
    return Catalogue(
        leaf[order], collection[order], brand[order], listed[order], launch, departments
    )


def lay_out_new(shop: Catalogue, items: int, rng: np.random.Generator) -> Catalogue:
    """Items of the same departments, collections and brands, listed at a moment not said (-1)."""
    collections = len(shop.launch)
    leaf = rng.integers(0, shop.departments * RING, items)
    brand = rng.integers(0, BRANDS_A_DEPARTMENT, items)
    return Catalogue(
        leaf,
        rng.integers(0, collections, items),
        (brand * 7 + (leaf // RING) * 3) % len(BRANDS),
        np.full(items, -1),
        shop.launch,
        shop.departments,
    )


class _Shelf:
    """Items grouped by a key and ordered by listing, to draw one that is listed already."""

    def __init__(self, key: np.ndarray, listed_at: np.ndarray) -> None:
        self._rows = np.lexsort((listed_at, key))
        self._keys = (key.astype(np.int64) << 33 | listed_at)[self._rows]

    def draw(self, key: np.ndarray, now: np.ndarray, u: np.ndarray) -> np.ndarray:
        """One row for each key, -1 if nothing is listed there; later listed ones more often."""
        key = key.astype(np.int64) << 33
        low = np.searchsorted(self._keys, key)
        count = np.searchsorted(self._keys, key | now, side="right") - low
        place = low + np.minimum((count * (1 - u**1.5)).astype(np.int64), count - 1)
        return np.where(count > 0, self._rows[np.maximum(place, 0)], -1)


def event_times(
    users: int, mean_events: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Lengths [U], longest first, and times [events], user by user, ascending inside a user."""
    lengths = 5 + rng.geometric(1 / max(mean_events - 4, 1), users) - 1
    long = rng.random(users) < LONG_USERS
    lengths = np.where(long, rng.integers(55, 111, users), np.minimum(lengths, 50))
    lengths = -np.sort(-lengths)
    first = np.cumsum(lengths) - lengths
    gaps = rng.exponential(6 * DAY, int(lengths.sum()))
    gaps[rng.random(len(gaps)) < SAME_BASKET] = 0
    gaps[first] = 0
    since = np.cumsum(gaps)
    since -= np.repeat(since[first], lengths)
    total = since[first + lengths - 1]
    start = rng.random(users) * np.maximum(YEAR - total, 0.02 * YEAR)
    squeeze = np.minimum(1, (YEAR - 1 - start) / np.maximum(total, 1))
    times = START + np.repeat(start, lengths) + since * np.repeat(squeeze, lengths)
    return lengths, times.astype(np.int64)


@dataclass(frozen=True)
class Wishes:
    """What each user [U] would look for next."""

    leaf: np.ndarray
    collection: np.ndarray


def walk(
    shop: Catalogue, lengths: np.ndarray, times: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, Wishes]:
    """The item row of every event [events], and what comes next; all users move at a time."""
    users = len(lengths)
    first = np.cumsum(lengths) - lengths
    shelves = _Shelves(shop)
    rank = rng.permutation(len(shop.leaf))
    chosen = np.empty(len(times), np.int64)
    homes = _season(shop, times[first], rng.random((2, users)))  # two favourite departments
    place = rng.integers(0, RING, users)
    department = homes[0].copy()
    collection = _launched(shop, times[first], rng.random(users))
    brand = np.full(users, -1)
    for step in range(int(lengths.max())):
        n = int(np.searchsorted(-lengths, -step, side="left"))  # lengths > step: a prefix
        now = times[first[:n] + step]
        u = rng.random((9, n))
        moved = u[0] < DRIFT_DEPARTMENT
        department[:n] = np.where(
            moved, homes[(u[0] < DRIFT_DEPARTMENT / 2).astype(int), np.arange(n)], department[:n]
        )
        collection[:n] = np.where(
            u[1] < DRIFT_COLLECTION, _launched(shop, now, u[2]), collection[:n]
        )
        if step:
            jump = np.where(
                u[3] < STEP_ON, 1, np.where(u[3] < STEP_ON + SKIP_ONE, 2, (u[4] * RING).astype(int))
            )
            place[:n] = (place[:n] + jump) % RING
        look = np.where(u[5] < KEEP_COLLECTION, collection[:n], _launched(shop, now, u[4]))
        leaf = department[:n] * RING + place[:n]
        row = shelves.choose(leaf, look, np.where(u[6] < KEEP_BRAND, brand[:n], -1), now, u[7])
        fashion = rank[(len(rank) * u[2] ** 6).astype(np.int64)]
        fashion = np.where(shop.listed_at[fashion] <= now, fashion, row)
        picked = np.where(u[8] < FASHION, fashion, row)
        brand[:n] = np.where(u[8] < FASHION, brand[:n], shop.brand[picked])
        chosen[first[:n] + step] = picked
    return chosen, Wishes(department * RING + (place + 1) % RING, collection)


class _Shelves:
    """The shop's items by brand within look, by look within leaf, by leaf, and all together."""

    def __init__(self, shop: Catalogue) -> None:
        self._looks = len(shop.launch)
        look = shop.leaf * self._looks + shop.collection
        self._fine = _Shelf(look * len(BRANDS) + shop.brand, shop.listed_at)
        self._look = _Shelf(look, shop.listed_at)
        self._leaf = _Shelf(shop.leaf, shop.listed_at)
        self._all = _Shelf(np.zeros_like(shop.leaf), shop.listed_at)

    def choose(
        self, leaf: np.ndarray, look: np.ndarray, brand: np.ndarray, now: np.ndarray, u: np.ndarray
    ) -> np.ndarray:
        """As near to the wish as the shelves allow: with the brand, without, any look, anything."""
        key = leaf * self._looks + look
        with_brand = self._fine.draw(key * len(BRANDS) + np.maximum(brand, 0), now, u)
        row = np.where(brand >= 0, with_brand, -1)
        for shelf, wish in (
            (self._look, key),
            (self._leaf, leaf),
            (self._all, np.zeros_like(leaf)),
        ):
            row = np.where(row >= 0, row, shelf.draw(wish, now, u))
        return row


def _season(shop: Catalogue, now: np.ndarray, u: np.ndarray) -> np.ndarray:
    """A department for each number `u`; each department has its high season. Shape of `u`."""
    phase = 2 * np.pi * ((now - START) / YEAR)[:, None]
    shift = 2 * np.pi * np.arange(shop.departments) / shop.departments
    weight = 1 + 0.6 * np.sin(phase + shift)
    share = np.cumsum(weight, axis=1) / weight.sum(axis=1, keepdims=True)
    return np.stack([(share < row[:, None]).sum(axis=1) for row in np.atleast_2d(u)])


def _launched(shop: Catalogue, now: np.ndarray, u: np.ndarray) -> np.ndarray:
    """A collection that exists at `now`; the last launched ones are twice as likely."""
    order = np.argsort(shop.launch, kind="stable")
    count = np.searchsorted(shop.launch[order], now, side="right")
    return order[np.minimum((count * (1 - u**1.3)).astype(np.int64), count - 1)]
