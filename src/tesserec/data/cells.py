"""Columns of any type -> columns of the contract's types, and a mask of the cells that cannot."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tesserec.data.compute import pc

_PRICE = re.compile(r"[$€£]?\s*(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)\s*")
_BOOL = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def strings(values: Sequence[str | None]) -> pa.Array:
    """Text cells; binary if one of them is not UTF-8 (held as surrogate escapes)."""
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        return pa.array([None if v is None else _raw(v) for v in values], pa.binary())


def _raw(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a surrogate pair, written as a JSON escape
        return text.encode("utf-8", "surrogatepass")


def text_of(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Trimmed strings, "" as null; and where the bytes were not UTF-8 (replaced there by U+FFFD).

    Raises:
        TypeError: floats, lists and the like, which are no text.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    broken = np.zeros(len(column), bool)
    if pa.types.is_null(kind):
        return pa.nulls(len(column), pa.string()), broken
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return column.cast(pa.string()), broken
    if not holds_text(kind):
        raise TypeError(f"a column of type {kind} holds no text")
    try:  # the detour checks the bytes, which reading Parquet does not
        text = column.cast(pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        raw = column.cast(pa.binary()).to_pylist()
        decoded = [None if cell is None else cell.decode("utf-8", "replace") for cell in raw]
        broken = np.array([cell is not None and not _is_utf8(cell) for cell in raw], bool)
        text = pa.array(decoded, pa.string())
    text = pc.utf8_trim_whitespace(text)
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text), broken


def holds_text(kind: pa.DataType) -> bool:
    """Whether cells of this type are text or bytes."""
    tests = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_binary,
        pa.types.is_large_binary,
    )
    return any(test(kind) for test in tests)


def _is_utf8(cell: bytes) -> bool:
    try:
        cell.decode()
    except UnicodeDecodeError:
        return False
    return True


def price_of(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """float64 prices; a range, a word or a negative number is null and marked."""
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), pa.float64()), np.zeros(len(column), bool)
    if holds_text(column.type) or pa.types.is_dictionary(column.type):
        text, _ = text_of(column)
        match = [cell and _PRICE.fullmatch(cell) for cell in text.to_pylist()]
        price = pa.array([float(m[1].replace(",", "")) if m else None for m in match], pa.float64())
        return price, _lost(text, price)
    if not (
        pa.types.is_integer(column.type)
        or pa.types.is_floating(column.type)
        or pa.types.is_decimal(column.type)
    ):
        raise TypeError(f"a column of type {column.type} holds no prices")
    price = column.cast(pa.float64(), safe=False)
    fine = pc.and_(pc.is_finite(price), pc.greater_equal(price, 0.0))
    price = pc.if_else(fine, price, pa.scalar(None, pa.float64()))
    return price, _lost(column, price)


def flag_of(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Booleans of true/false, yes/no, 1/0; anything else is null and marked."""
    if pa.types.is_boolean(column.type):
        return column, np.zeros(len(column), bool)
    text, _ = text_of(column)
    flags = pa.array(
        [_BOOL.get(cell.lower()) if cell else None for cell in text.to_pylist()], pa.bool_()
    )
    return flags, _lost(text, flags)


def paths_of(column: pa.Array, separator: str) -> tuple[pa.Array, np.ndarray]:
    """Category paths as list<string>: of text with a separator, of lists, or of lists of levels."""
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = kind.value_type
        if holds_text(inner) or pa.types.is_null(inner):
            return _paths([row for row in column.cast(_list_of_binary(kind)).to_pylist()])
        if pa.types.is_list(inner) or pa.types.is_large_list(inner):
            return _paths([row and [_path(levels) for levels in row] for row in column.to_pylist()])
        raise TypeError(f"a column of type {kind} holds no category paths")
    text, broken = text_of(column)
    paths, _ = _paths([cell.split(separator) if cell else None for cell in text.to_pylist()])
    return paths, broken


def _list_of_binary(kind: pa.DataType) -> pa.DataType:
    return pa.list_(pa.binary()) if not pa.types.is_null(kind.value_type) else kind


def _path(levels: list[str | None] | None) -> str:
    return " > ".join(level.strip() for level in levels or [] if level)


def _paths(rows: list[Any]) -> tuple[pa.Array, np.ndarray]:
    broken = np.zeros(len(rows), bool)
    out: list[list[str] | None] = []
    for i, row in enumerate(rows):
        cells = [
            c.decode("utf-8", "replace") if isinstance(c, bytes) else c for c in row or [] if c
        ]
        broken[i] = any(isinstance(c, bytes) and not _is_utf8(c) for c in row or [])
        out.append([c.strip() for c in cells if c.strip()] or None)
    return pa.array(out, pa.list_(pa.string())), broken


def _lost(before: pa.Array, after: pa.Array) -> np.ndarray:
    return pc.and_(before.is_valid(), after.is_null()).to_numpy(zero_copy_only=False)


def as_json(row: dict[str, Any]) -> str:
    """A row for the quarantine file, readable whatever it holds."""
    return json.dumps({k: _plain(v) for k, v in row.items()}, ensure_ascii=False, default=str)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return value
