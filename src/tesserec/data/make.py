"""`tesserec data make`: write the generated shop as Parquet, the same bytes for the same seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tesserec.artifacts import hash_of_files, sha256_of
from tesserec.data.compute import pc
from tesserec.data.shop import (
    RING,
    START,
    YEAR,
    Catalogue,
    Wishes,
    event_times,
    lay_out,
    lay_out_new,
    walk,
)
from tesserec.data.shop_words import AUDIENCES, BRANDS, COLLECTIONS, DEPARTMENTS, SIZES
from tesserec.errors import UsageError

GENERATOR_VERSION = 1  # raise it when the same arguments give other rows


def make_shop(
    out_folder: Path,
    users: int,
    items: int,
    seed: int,
    dirty: float = 0.0,
    mean_events: float = 8.0,
    new_items: int = 0,
) -> dict[str, Any]:
    """Write `interactions.parquet` and `items.parquet`; returns what `data make --json` prints.

    Args:
        dirty: the share of rows that are spoiled on purpose (docs/data.md lists the ways).
        new_items: listed after all the others, without any event; all other rows are those of the
            same shop without them. `wishes.parquet` tells which of them a user would look for next.
    """
    interactions, catalogue, wishes = _shop(users, items, seed, dirty, mean_events, new_items)
    tables = {"interactions": interactions, "items": catalogue}
    if wishes is not None:
        tables["wishes"] = wishes
    out_folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, table in tables.items():
        path = out_folder / f"{name}.parquet"
        temporary = out_folder / f".{name}.parquet.tmp"
        pq.write_table(table, temporary, compression="zstd")
        temporary.replace(path)
        files[path.name] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
    return {
        "path": str(out_folder),
        "users": users,
        "items": items + new_items,
        "interactions": interactions.num_rows,
        "bytes": sum(int(entry["bytes"]) for entry in files.values()),
        "sha256": hash_of_files(files),
    }


def generate(
    users: int,
    items: int,
    seed: int,
    dirty: float = 0.0,
    mean_events: float = 8.0,
    novel: float = 0.0,
) -> tuple[pa.Table, pa.Table]:
    """The shop's interactions (grouped by user, in order) and items (in order of listing).

    Raises:
        UsageError: a size below 1, or a share of dirty rows or novel leaves outside 0 to 0.5.
    """
    return _shop(users, items, seed, dirty, mean_events, 0, novel)[:2]


def _shop(
    users: int,
    items: int,
    seed: int,
    dirty: float,
    mean_events: float,
    new_items: int,
    novel: float = 0.0,
) -> tuple[pa.Table, pa.Table, pa.Table | None]:
    if users < 1 or items < RING:
        raise UsageError(f"a shop of {users} users and {items} items; use at least 1 and {RING}")
    if not 0 <= dirty <= 0.5:
        raise UsageError(f"dirty is {dirty}; use a share from 0 to 0.5")
    if not 0 <= novel <= 0.5:
        raise UsageError(f"novel is {novel}; use a share from 0 to 0.5")
    rng = np.random.default_rng(seed)
    shop = lay_out(items, rng, novel)
    lengths, times = event_times(users, mean_events, rng)
    rows, wishes = walk(shop, lengths, times, rng)
    catalogue = items_table(shop, rng)
    order = rng.permutation(users)  # the simulation has the longest first; the file does not
    interactions = _interactions_table(catalogue["item_id"], lengths, times, rows, order)
    if dirty:
        from tesserec.data.spoil import spoil

        interactions, catalogue = spoil(interactions, catalogue, dirty, rng)
    if not new_items:
        return interactions, catalogue, None
    rng = np.random.default_rng([seed, 1])  # the rest stays as it is
    added = lay_out_new(shop, new_items, rng)
    table = items_table(added, rng, first=items)
    told = _wishes_table(table["item_id"], added, wishes, order)
    return interactions, pa.concat_tables([catalogue, table.cast(catalogue.schema)]), told


def _wishes_table(
    item_ids: pa.ChunkedArray, added: Catalogue, wishes: Wishes, order: np.ndarray
) -> pa.Table:
    """A row for each user and each new item of the leaf and collection that come next."""
    width = len(added.launch)
    wish = (wishes.leaf * width + wishes.collection)[order]
    cell = added.leaf * width + added.collection
    by_cell = np.argsort(cell, kind="stable")
    low, high = (np.searchsorted(cell[by_cell], wish, side=side) for side in ("left", "right"))
    count = high - low
    user = np.repeat(np.arange(len(wish)), count)
    place = np.arange(len(user)) - np.repeat(np.cumsum(count) - count, count)
    rows = by_cell[np.repeat(low, count) + place]
    return pa.table(
        {
            "user_id": _ids("U", len(wish)).take(pa.array(user)),
            "item_id": item_ids.combine_chunks().take(pa.array(rows)),
        }
    )


def _interactions_table(
    item_ids: pa.ChunkedArray,
    lengths: np.ndarray,
    times: np.ndarray,
    rows: np.ndarray,
    order: np.ndarray,
) -> pa.Table:
    users = len(lengths)
    starts = np.cumsum(lengths) - lengths
    lengths = lengths[order]
    first = np.cumsum(lengths) - lengths
    position = np.arange(len(rows)) - np.repeat(first, lengths)
    source = np.repeat(starts[order], lengths) + position
    names = _ids("U", users)
    return pa.table(
        {
            "user_id": names.take(pa.array(np.repeat(np.arange(users), lengths))),
            "item_id": item_ids.combine_chunks().take(pa.array(rows[source])),
            "timestamp": pa.array(times[source]),
            "position": pa.array(position.astype(np.int32)),
        }
    )


def items_table(shop: Catalogue, rng: np.random.Generator, first: int = 0) -> pa.Table:
    """Names, prices and texts in which leaf, collection and brand can be read.

    Ids begin at the number `first`.
    """
    n = len(shop.leaf)
    hall = shop.leaf // RING
    departments = list(DEPARTMENTS)
    department = hall % len(departments)
    audience = hall // len(departments) % len(AUDIENCES)
    leaves = [leaf for chain in DEPARTMENTS.values() for leaf in chain]
    leaf = _words(leaves, department * RING + shop.leaf % RING)
    look = _words(list(COLLECTIONS), shop.collection)
    traits = np.array(list(COLLECTIONS.values()))[shop.collection]  # [N, 4]
    brand = _words(list(BRANDS), shop.brand)
    size = _words(list(SIZES), rng.integers(0, len(SIZES), n))
    two = np.argsort(rng.random((n, 4)), axis=1)[:, :2]
    trait_a, trait_b = (pa.array(traits[np.arange(n), two[:, i]]) for i in (0, 1))
    hall_name = _words(departments, department)
    public = _words(list(AUDIENCES), audience)
    told = (public, leaf, "of the", look, "collection by", brand, ":", trait_a, "and", trait_b)
    base = 1 + np.arange(len(leaves)) * 37 % 50
    price = base[department * RING + shop.leaf % RING] * (1 + 0.15 * shop.brand) + 0.99
    return pa.table(
        {
            "item_id": _ids("I", first + n).slice(first).take(pa.array(rng.permutation(n))),
            "title": _join(brand, look, trait_a, leaf, size),
            "brand": brand,
            "categories": _listed(
                _join(_words(["Shop"], department * 0), hall_name, public, leaf, by=" > ")
            ),
            "price": pa.array(np.round(price, 2)),
            "description": _join(*told, "for", hall_name),
            "keywords": _join(leaf, look, trait_a, trait_b),
            "listed_at": pa.array(
                np.minimum(shop.listed_at, START + YEAR), mask=shop.listed_at < 0
            ),
        }
    )


def _ids(letter: str, n: int) -> pa.StringArray:
    width = max(6, len(str(n)))
    return pa.array([f"{letter}{i:0{width}d}" for i in range(n)])


def _words(vocabulary: list[str], index: np.ndarray) -> pa.Array:
    return pa.array(vocabulary).take(pa.array(index.astype(np.int64)))


def _join(*parts: pa.Array | str, by: str = " ") -> pa.Array:
    return pc.binary_join_element_wise(*parts, by)


def _listed(paths: pa.Array) -> pa.Array:
    """Each string as a list of one."""
    return pa.ListArray.from_arrays(pa.array(np.arange(len(paths) + 1, dtype=np.int32)), paths)
