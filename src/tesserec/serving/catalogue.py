"""What rules speak of: availability, new items, facets and groups of a release's items.

Columns are read as whole arrays; nothing here runs through the items one by one.
Legend of shapes: N items, P category paths that there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tesserec.decoders.constraints import pack_bits
from tesserec.errors import RequestError
from tesserec.serving.facets import FacetRule
from tesserec.serving.masks import Masks, Told

if TYPE_CHECKING:
    import pyarrow as pa

DAY_S = 86_400


@dataclass(frozen=True)
class Words:
    """A column of words: a number for each word, and that number for each place; -1: null."""

    number_of: dict[str, int]
    numbers: np.ndarray  # int32

    def among(self, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        """bool, aligned with `numbers`: whether the word there is one of those so numbered."""
        chosen = np.zeros(len(self.number_of) + 1, bool)  # the last place is that of -1
        chosen[numbers] = True
        return chosen[self.numbers]


@dataclass(frozen=True)
class Catalogue:
    """Facts about the items of one release, by row; columns are indexed at their first use."""

    items: pa.Table
    row_of: dict[str, int]
    masks: Masks = field(default_factory=Masks)

    @cached_property
    def available(self) -> np.ndarray:
        """bool [N]; null means available."""
        return self._flags("available", missing=True)

    @cached_property
    def new(self) -> np.ndarray:
        """bool [N]: items that the model, or the tokenizer, was not trained on."""
        return ~self._flags("trained", missing=True)

    @cached_property
    def groups(self) -> np.ndarray:
        """int32 [N]: the (first) category path of each item; -1 for an item without one."""
        starts, numbers = self._path_starts, self._paths.numbers
        groups = np.full(self.items.num_rows, -1, np.int32)
        some = starts[:-1] < starts[1:]
        groups[some] = numbers[starts[:-1][some]]
        return groups

    def category(self, row: int) -> str | None:
        """The (first) category path of an item."""
        paths = self._categories[row].as_py()
        return paths[0] if paths else None

    def warm(self) -> None:
        """Index all columns, so that no request waits for it; 0.5 s for a million items."""
        _ = self._brands, self._paths_of, self._path_rows, self.groups
        self.new_mask(0, 0.0)

    # ---- masks, packed: shared by equal rules ----

    def mask(self, rule: FacetRule, told: Told | None = None) -> np.ndarray:
        """uint8 [ceil(N/8)]: the items that these facets leave; `told` hears hit or miss.

        Raises:
            RequestError: a brand or category that no item has.
        """
        return self.masks.get(
            rule, lambda: pack_bits(self._matching(rule)), told, rule_bytes=rule.bytes
        )

    def new_mask(self, days: int, now_s: float, told: Told | None = None) -> np.ndarray:
        """uint8 [ceil(N/8)]: items that count as new for a quota.

        `days` 0: those that `new` holds; else those listed since the (UTC) day so many days ago.
        """
        since = (int(now_s // DAY_S) - days) * DAY_S if days else None
        rule = ("new", since)

        def make() -> np.ndarray:
            if since is None:
                return pack_bits(self.new)
            return pack_bits(self._compare("listed_at", "greater_equal", since))

        return self.masks.get(rule, make, told)

    def rows(self, ids: Iterable[str]) -> np.ndarray:
        """int64 rows of the known ones of these item ids, rising."""
        row_of = self.row_of
        found = {row_of[item] for item in ids if item in row_of}
        return np.sort(np.fromiter(found, np.int64, len(found)))

    def _matching(self, rule: FacetRule) -> np.ndarray:
        """bool [N]: allowed by every kind, and denied by no facet."""
        mask = np.ones(self.items.num_rows, bool)
        for kind in sorted({facet.kind for facet in rule.allow or ()}):
            mask &= self._any_of(kind, [f.value for f in rule.allow or () if f.kind == kind])
        for kind in sorted({facet.kind for facet in rule.deny}):
            mask &= ~self._any_of(kind, [f.value for f in rule.deny if f.kind == kind])
        return mask

    def _any_of(self, kind: str, values: list[Any]) -> np.ndarray:
        """bool [N]: items with one of these values of a kind; never one whose value is null."""
        if kind == "brand":
            self._require(kind, values, self._brands.number_of)
            return self._brands.among([self._brands.number_of[value] for value in values])
        if kind == "category":
            self._require(kind, values, self._paths_of)
            paths = np.concatenate([self._paths_of[value] for value in values])
            mask = np.zeros(self.items.num_rows, bool)
            mask[self._path_rows[self._paths.among(paths)]] = True
            return mask
        if kind == "price<":
            limit, itself = max(values)
            return self._compare("price", "less_equal" if itself else "less", limit)
        if kind == "price>":
            limit, itself = min(values, key=lambda bound: (bound[0], not bound[1]))
            return self._compare("price", "greater_equal" if itself else "greater", limit)
        if kind == "listed_after":
            return self._compare("listed_at", "greater_equal", min(values))
        return self._compare("listed_at", "less", max(values))

    def _require(self, kind: str, values: list[str], known: dict[str, Any]) -> None:
        for value in values:
            if value not in known:
                raise RequestError(f"no item has the facet '{kind}:{value}'")

    # ---- columns ----

    @cached_property
    def _brands(self) -> Words:
        import pyarrow as pa

        return _words(self._column("brand", pa.string()))

    @cached_property
    def _categories(self) -> pa.ListArray:
        import pyarrow as pa

        return self._column("categories", pa.list_(pa.string()))

    @cached_property
    def _paths(self) -> Words:
        """The category paths of all items, one behind the other."""
        return _words(self._categories.flatten())

    @cached_property
    def _path_starts(self) -> np.ndarray:
        """int64 [N + 1]: where the paths of each item begin (and the last one's end)."""
        import pyarrow.compute as pc

        lengths = pc.fill_null(self._categories.value_lengths(), 0)
        return np.r_[0, np.cumsum(lengths.to_numpy(zero_copy_only=False), dtype=np.int64)]

    @cached_property
    def _path_rows(self) -> np.ndarray:
        """int32: the item of each path."""
        rows = np.arange(self.items.num_rows, dtype=np.int32)
        return np.repeat(rows, np.diff(self._path_starts))

    @cached_property
    def _paths_of(self) -> dict[str, np.ndarray]:
        """Numbers of paths by facet: a path, the start of one, or one level of one."""
        numbers: dict[str, list[int]] = {}
        for path, number in self._paths.number_of.items():
            levels = path.split(" > ")
            names = {*levels, *(" > ".join(levels[: n + 1]) for n in range(len(levels)))}
            for name in names:
                numbers.setdefault(name, []).append(number)
        return {name: np.asarray(found, np.int32) for name, found in numbers.items()}

    def _compare(self, column: str, how: str, limit: float) -> np.ndarray:
        """bool [N]; null is never within a limit.

        Prices are compared in single precision: tables of prices often are of it, and a price of
        0.1 mustn't be above 0.1 for having been widened.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        kind = pa.float32() if column == "price" else pa.int64()
        values = self._column(column, kind).cast(kind, safe=False)
        within = pc.call_function(how, [values, pa.scalar(limit, kind)])
        return pc.fill_null(within, False).to_numpy(zero_copy_only=False)

    def _flags(self, name: str, *, missing: bool) -> np.ndarray:
        import pyarrow as pa
        import pyarrow.compute as pc

        flags = pc.fill_null(self._column(name, pa.bool_()), missing)
        return flags.to_numpy(zero_copy_only=False)

    def _column(self, name: str, kind: Any) -> Any:
        """One column in one piece; nulls where the table has none of that name."""
        import pyarrow as pa

        if name not in self.items.column_names:
            return pa.nulls(self.items.num_rows, kind)
        column = self.items[name].combine_chunks()
        return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _words(column: Any) -> Words:
    encoded = column.dictionary_encode()
    numbers = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    words = encoded.dictionary.to_pylist()
    return Words({word: number for number, word in enumerate(words)}, numbers)
