"""What rules speak of: availability, new items, facets and groups of a release's items."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tesserec.decoders.constraints import pack_bits
from tesserec.errors import RequestError

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Catalogue:
    """Facts about the items of one release, by row; facets are indexed at their first use."""

    items: pa.Table
    row_of: dict[str, int]

    @cached_property
    def available(self) -> np.ndarray:
        """bool [N]; null means available."""
        return self._flags("available", missing=True)

    @cached_property
    def new(self) -> np.ndarray:
        """bool [N]: items that the tokenizer was not trained on."""
        return ~self._flags("trained", missing=True)

    @cached_property
    def new_bits(self) -> np.ndarray:
        """`new`, packed."""
        return pack_bits(self.new)

    @cached_property
    def groups(self) -> np.ndarray:
        """int32 [N]: the (first) category path of each item; -1 for an item without one."""
        known: dict[str, int] = {}
        paths = self._column("categories")
        groups = np.empty(self.items.num_rows, np.int32)
        for row, path in enumerate(paths):
            groups[row] = known.setdefault(path[0], len(known)) if path else -1
        return groups

    @cached_property
    def facets(self) -> dict[str, np.ndarray]:
        """Rows by facet: `brand:X`, and `category:X` for a path, its starts and its levels."""
        rows: dict[str, list[int]] = {}
        brands, categories = self._column("brand"), self._column("categories")
        for row, (brand, paths) in enumerate(zip(brands, categories, strict=True)):
            names = {f"brand:{brand}"} if brand else set()
            for path in paths or ():
                levels = path.split(" > ")
                names |= {f"category:{level}" for level in levels}
                names |= {f"category:{' > '.join(levels[: n + 1])}" for n in range(len(levels))}
            for name in names:
                rows.setdefault(name, []).append(row)
        return {name: np.asarray(found, np.int64) for name, found in rows.items()}

    def rows(self, ids: Iterable[str]) -> np.ndarray:
        """int64 rows of the known ones of these item ids, rising."""
        found = {self.row_of[item] for item in ids if item in self.row_of}
        return np.asarray(sorted(found), np.int64)

    def select(self, entries: Sequence[str]) -> np.ndarray:
        """bool [N]: the union of item ids and facets; unknown item ids select nothing.

        Raises:
            RequestError: a facet that no item has.
        """
        mask = np.zeros(self.items.num_rows, bool)
        mask[self.rows(entries)] = True
        for entry in entries:
            if is_facet(entry) and entry not in self.row_of:
                if entry not in self.facets:
                    raise RequestError(f"no item has the facet '{entry}'")
                mask[self.facets[entry]] = True
        return mask

    def _column(self, name: str) -> list[Any]:
        if name not in self.items.column_names:
            return [None] * self.items.num_rows
        return self.items[name].to_pylist()

    def _flags(self, name: str, *, missing: bool) -> np.ndarray:
        values = self._column(name)
        return np.fromiter((missing if v is None else v for v in values), bool, len(values))


def is_facet(entry: str) -> bool:
    return entry.startswith(("brand:", "category:"))
