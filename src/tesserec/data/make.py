"""`tesserec data make`: write the generated shop as Parquet, the same bytes for the same seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tesserec.artifacts import hash_of_files, sha256_of
from tesserec.data.compute import pc
from tesserec.data.shop import RING, START, YEAR, Catalogue, event_times, lay_out, walk
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
) -> dict[str, Any]:
    """Write `interactions.parquet` and `items.parquet`; returns what `data make --json` prints.

    `dirty` is the share of rows that are spoiled on purpose (docs/data.md lists the ways).
    """
    interactions, catalogue = generate(users, items, seed, dirty, mean_events)
    out_folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, table in (("interactions", interactions), ("items", catalogue)):
        path = out_folder / f"{name}.parquet"
        temporary = out_folder / f".{name}.parquet.tmp"
        pq.write_table(table, temporary, compression="zstd")
        temporary.replace(path)
        files[path.name] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
    return {
        "path": str(out_folder),
        "users": users,
        "items": items,
        "interactions": interactions.num_rows,
        "bytes": sum(int(entry["bytes"]) for entry in files.values()),
        "sha256": hash_of_files(files),
    }


def generate(
    users: int, items: int, seed: int, dirty: float = 0.0, mean_events: float = 8.0
) -> tuple[pa.Table, pa.Table]:
    """The shop's interactions (grouped by user, in order) and items (in order of listing).

    Raises:
        UsageError: a size below 1, or a share of dirty rows outside 0 to 0.5.
    """
    if users < 1 or items < RING:
        raise UsageError(f"a shop of {users} users and {items} items; use at least 1 and {RING}")
    if not 0 <= dirty <= 0.5:
        raise UsageError(f"dirty is {dirty}; use a share from 0 to 0.5")
    rng = np.random.default_rng(seed)
    shop = lay_out(items, rng)
    lengths, times = event_times(users, mean_events, rng)
    rows = walk(shop, lengths, times, rng)
    catalogue = items_table(shop, rng)
    interactions = _interactions_table(catalogue["item_id"], lengths, times, rows, rng)
    if dirty:
        from tesserec.data.spoil import spoil

        return spoil(interactions, catalogue, dirty, rng)
    return interactions, catalogue


def _interactions_table(
    item_ids: pa.ChunkedArray,
    lengths: np.ndarray,
    times: np.ndarray,
    rows: np.ndarray,
    rng: np.random.Generator,
) -> pa.Table:
    users = len(lengths)
    order = rng.permutation(users)  # the simulation has the longest first; the file does not
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


def items_table(shop: Catalogue, rng: np.random.Generator) -> pa.Table:
    """Names, prices and texts in which leaf, collection and brand can be read."""
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
            "item_id": _ids("I", n).take(pa.array(rng.permutation(n))),
            "title": _join(brand, look, trait_a, leaf, size),
            "brand": brand,
            "categories": _listed(
                _join(_words(["Shop"], department * 0), hall_name, public, leaf, by=" > ")
            ),
            "price": pa.array(np.round(price, 2)),
            "description": _join(*told, "for", hall_name),
            "keywords": _join(leaf, look, trait_a, trait_b),
            "listed_at": pa.array(np.minimum(shop.listed_at, START + YEAR)),
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
