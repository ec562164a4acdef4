"""Rows of a source -> rows of the contract; what cannot be one gets a reason (docs/data.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from tesserec.data import cells
from tesserec.data.compute import pc
from tesserec.data.records import Chunk, Counts
from tesserec.data.schemas import INTERACTIONS, ITEMS
from tesserec.data.times import seconds_of
from tesserec.errors import DataError

Clean = tuple[
    pa.Table, np.ndarray
]  # rows of the contract, and a reason ("" = kept) of each row read

NO_USER, NO_ITEM = "no user_id", "no item_id"
USER_BYTES, ITEM_BYTES = "user_id is not UTF-8", "item_id is not UTF-8"
UNKNOWN_ITEM = "item_id is not among the items"
DUPLICATE = "item_id occurs before; the first one is kept"
NO_TIME, BAD_TIME = "no time, while other rows have one", "time cannot be read"
OLD_TIME, FUTURE_TIME = "time lies before 1970", "time lies in the future"
BAD_POSITION = "position is not a whole number of at least 0"


class InteractionCleaner:
    """Cleans interactions chunk by chunk; remembers one number a user and the known items."""

    def __init__(
        self,
        items: set[str] | None,
        *,
        has_times: bool,
        time_unit: str,
        latest: int,
        counts: Counts,
    ) -> None:
        """`items` None: every item is known. `latest`: the first second that counts as future."""
        self._items = items
        self._has_times, self._unit, self._latest = has_times, time_unit, latest
        self._counts = counts
        self._code: dict[str, int] = {}
        self._next = np.zeros(1024, np.int64)  # of each user: the next position
        self.new_items: dict[str, None] = {}  # in order of appearance, when `items` is None
        self.span: tuple[int, int] | None = None  # first and last time

    @property
    def users(self) -> int:
        return len(self._code)

    def clean(self, chunk: Chunk) -> Clean:
        """The kept rows as `INTERACTIONS`, and every row's reason."""
        table, n = chunk.table, chunk.table.num_rows
        reasons = np.full(n, "", dtype=object)
        user, user_broken = _text(table, "user_id", chunk.file)
        item, item_broken = _text(table, "item_id", chunk.file)
        self._trimmed(table, user, item)
        _mark(reasons, user_broken, USER_BYTES)
        _mark(reasons, item_broken, ITEM_BYTES)
        _mark(reasons, _nulls(user), NO_USER)
        _mark(reasons, _nulls(item), NO_ITEM)
        if self._items is not None:
            _mark(reasons, ~_members(item, self._items), UNKNOWN_ITEM)
        seconds = self._times(chunk, reasons)
        given = self._given_positions(chunk, reasons)
        keep = np.flatnonzero(reasons == "")
        user, item = user.take(pa.array(keep)), item.take(pa.array(keep))
        position = self._positions(user, None if given is None else given[keep])
        if self._items is None:
            self.new_items.update(dict.fromkeys(item.unique().to_pylist()))
        columns = [
            user,
            item,
            self._time_column(seconds[keep]),
            pa.array(position),
            self._kinds(table, keep),
        ]
        return pa.Table.from_arrays(columns, schema=INTERACTIONS), reasons

    def _times(self, chunk: Chunk, reasons: np.ndarray) -> np.ndarray:
        column = _column(chunk.table, "timestamp")
        if not self._has_times or column is None:
            if self._has_times:
                _mark(reasons, np.ones(len(reasons), bool), NO_TIME)
            elif column is not None:
                what = "time dropped: the other rows have none"
                given = len(column) - _tidy(column).null_count
                self._counts.repair("interactions", what, given)
            return np.zeros(len(reasons), np.int64)
        try:
            column = _tidy(column)
            seconds, good = seconds_of(column, self._unit)
        except TypeError as error:
            raise _wrong_type(chunk.file, "timestamp", error) from None
        _mark(reasons, _nulls(column), NO_TIME)
        _mark(reasons, ~good, BAD_TIME)
        _mark(reasons, seconds < 0, OLD_TIME)
        _mark(reasons, seconds >= self._latest, FUTURE_TIME)
        return seconds

    def _time_column(self, seconds: np.ndarray) -> pa.Array:
        if not self._has_times:
            return pa.nulls(len(seconds), pa.int64())
        if len(seconds):
            low, high = int(seconds.min()), int(seconds.max())
            self.span = (
                (min(low, self.span[0]), max(high, self.span[1])) if self.span else (low, high)
            )
        return pa.array(seconds)

    def _given_positions(self, chunk: Chunk, reasons: np.ndarray) -> np.ndarray | None:
        column = _column(chunk.table, "position")
        if column is None or column.null_count == len(column):
            return None
        try:
            text = column.cast(pa.string())
            fine = pc.fill_null(pc.match_substring_regex(text, r"^\s*\d{1,15}(\.0*)?\s*$"), False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise _wrong_type(chunk.file, "position", error) from None
        _mark(reasons, ~fine.to_numpy(zero_copy_only=False), BAD_POSITION)
        text = pc.if_else(fine, pc.utf8_trim_whitespace(text), "0")
        return text.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.int64)

    def _positions(self, user: pa.Array, given: np.ndarray | None) -> np.ndarray:
        """Running index of each user over all chunks; with given positions, those."""
        encoded = user.dictionary_encode()
        code = np.array(
            [self._code.setdefault(u, len(self._code)) for u in encoded.dictionary.to_pylist()],
            np.int64,
        )
        if len(self._code) > len(self._next):
            more = np.zeros(max(len(self._code), 2 * len(self._next)) - len(self._next), np.int64)
            self._next = np.concatenate([self._next, more])
        local = encoded.indices.to_numpy(zero_copy_only=False)
        if given is not None:
            np.maximum.at(self._next, code[local], given + 1)
            return given
        order = np.argsort(local, kind="stable")
        count = np.bincount(local, minlength=len(code))
        running = np.empty(len(local), np.int64)
        running[order] = np.arange(len(local)) - np.repeat(np.cumsum(count) - count, count)
        position = running + self._next[code][local] if len(code) else running
        self._next[code] += count
        return position

    def _trimmed(self, table: pa.Table, user: pa.Array, item: pa.Array) -> None:
        for name, after in (("user_id", user), ("item_id", item)):
            self._counts.repair(
                "interactions", f"white space around {name}", _trims(table, name, after)
            )

    def _kinds(self, table: pa.Table, keep: np.ndarray) -> pa.Array:
        column = _column(table, "event_type")
        if column is None:
            return pa.array(["interaction"]).take(pa.array(np.zeros(len(keep), np.int64)))
        text, _ = cells.text_of(column)
        return pc.fill_null(text, "interaction").take(pa.array(keep))


class ItemCleaner:
    """Cleans items chunk by chunk; remembers the ids."""

    def __init__(self, *, time_unit: str, separator: str, counts: Counts) -> None:
        self._unit, self._separator, self._counts = time_unit, separator, counts
        self.known: set[str] = set()

    def clean(self, chunk: Chunk) -> Clean:
        """The kept rows as `ITEMS`, and every row's reason."""
        table, n = chunk.table, chunk.table.num_rows
        reasons = np.full(n, "", dtype=object)
        item, broken = _text(table, "item_id", chunk.file)
        _mark(reasons, broken, ITEM_BYTES)
        _mark(reasons, _nulls(item), NO_ITEM)
        self._counts.repair("items", "white space around item_id", _trims(table, "item_id", item))
        for i, name in enumerate(item.to_pylist()):
            if not reasons[i] and name in self.known:
                reasons[i] = DUPLICATE
            elif not reasons[i]:
                self.known.add(name)
        keep = np.flatnonzero(reasons == "")
        take = pa.array(keep)
        kept = {name: _column(table, name) for name in table.column_names}
        columns = [item.take(take)]
        for field in list(ITEMS)[1:]:
            column = kept.get(field.name)
            columns.append(
                pa.nulls(len(keep), field.type)
                if column is None
                else self._cell(field, column.take(take), chunk.file)
            )
        return pa.Table.from_arrays(columns, schema=ITEMS), reasons

    def _cell(self, field: pa.Field, column: pa.Array, file: str) -> pa.Array:
        readers: dict[str, Callable[[pa.Array], tuple[pa.Array, np.ndarray]]] = {
            "price": cells.price_of,
            "available": cells.flag_of,
            "listed_at": self._listed_at,
            "categories": lambda c: cells.paths_of(c, self._separator),
        }
        try:
            values, marked = readers.get(field.name, cells.text_of)(column)
        except TypeError as error:
            raise _wrong_type(file, field.name, error) from None
        became = "null" if field.name in ("price", "available", "listed_at") else "U+FFFD"
        what = "cannot be read" if became == "null" else "is not UTF-8"
        self._counts.repair("items", f"{field.name} {what}: {became}", int(marked.sum()))
        return values

    def _listed_at(self, column: pa.Array) -> tuple[pa.Array, np.ndarray]:
        column = _tidy(column)
        seconds, good = seconds_of(column, self._unit)
        return pa.array(seconds, mask=~good), ~good & ~_nulls(column)


def _text(table: pa.Table, name: str, file: str) -> tuple[pa.Array, np.ndarray]:
    column = _column(table, name)
    if column is None:
        raise DataError(f"{file} has no column for '{name}'; map it in data.columns")
    try:
        return cells.text_of(column)
    except TypeError as error:
        raise _wrong_type(file, name, error) from None


def _column(table: pa.Table, name: str) -> pa.Array | None:
    if name not in table.column_names:
        return None
    column = table[name].combine_chunks()
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column


def _wrong_type(file: str, name: str, error: Any) -> DataError:
    return DataError(
        f"{file}, column '{name}': {error}; convert the column or map another one in data.columns"
    )


def _mark(reasons: np.ndarray, where: np.ndarray, reason: str) -> None:
    reasons[where & (reasons == "")] = reason


def _nulls(column: pa.Array) -> np.ndarray:
    return column.is_null().to_numpy(zero_copy_only=False)


def _tidy(column: pa.Array) -> pa.Array:
    """Text without white space around it, blank as null; other types as they are."""
    return cells.text_of(column)[0] if cells.holds_text(column.type) else column


def _members(column: pa.Array, known: set[str]) -> np.ndarray:
    encoded = column.dictionary_encode()
    found = np.array([name in known for name in encoded.dictionary.to_pylist()] + [True], bool)
    index = encoded.indices.fill_null(len(found) - 1).to_numpy(zero_copy_only=False)
    return found[index]


def _trims(table: pa.Table, name: str, after: pa.Array) -> int:
    column = _column(table, name)
    if column is None or not pa.types.is_string(column.type):
        return 0
    return pc.sum(pc.not_equal(column, after)).as_py() or 0
