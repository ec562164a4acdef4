"""Times of any usual spelling -> whole seconds since 1970 (UTC)."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from tesserec.data.compute import pc

PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}
# From which size on a bare number is no longer seconds: 1e11 s is the year 5138, 1e11 ms is 1973.
_STEPS = ((10**11, 1), (10**14, 1_000), (10**17, 1_000_000))
_BEYOND = 1_000_000_000  # nanoseconds


def seconds_of(column: pa.Array, unit: str) -> tuple[np.ndarray, np.ndarray]:
    """Seconds (int64) and whether each could be read, both [n]; nulls and bad ones are 0 and False.

    `unit` is that of bare numbers: s, ms, us, or auto (by size); `iso` takes no numbers. Text is a
    number or ISO 8601; without a zone it is UTC. Fractions are rounded down.

    Raises:
        TypeError: the column's type cannot hold a time.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return seconds_of(column.dictionary_decode(), unit)
    if pa.types.is_null(kind):
        return np.zeros(len(column), np.int64), np.zeros(len(column), bool)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        per = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
        wide = column if pa.types.is_timestamp(kind) else column.cast(pa.timestamp("s"))
        return _filled(wide.cast(pa.int64()), per[wide.type.unit])
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _numbers(
            column.cast(pa.float64()) if not pa.types.is_integer(kind) else column, unit
        )
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _texts(column, unit)
    raise TypeError(f"a column of type {kind} holds no times")


def parse(text: str, unit: str) -> int | None:
    """Seconds of one text, or None: a number in `unit`, or ISO 8601."""
    text = text.strip()
    try:
        number = float(text)
    except ValueError:
        return _iso(text) if unit in ("auto", "iso") else None
    if unit == "iso" or not math.isfinite(number):
        return _iso(text) if unit == "iso" else None
    return _scaled(int(text) if text.lstrip("+-").isdecimal() else number, unit)


def _iso(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return math.floor(moment.timestamp())


def _scaled(number: float, unit: str) -> int | None:
    per = PER_SECOND.get(unit) or next(
        (per for limit, per in _STEPS if abs(number) < limit), _BEYOND
    )
    value = number // per
    return int(value) if abs(value) < 2**62 else None


def _filled(column: pa.Array, per: int) -> tuple[np.ndarray, np.ndarray]:
    good = column.is_valid().to_numpy(zero_copy_only=False)
    return column.fill_null(0).to_numpy(zero_copy_only=False) // per, good


def _numbers(column: pa.Array, unit: str) -> tuple[np.ndarray, np.ndarray]:
    good = column.is_valid().to_numpy(zero_copy_only=False)
    values = column.fill_null(0).to_numpy(zero_copy_only=False)
    if values.dtype.kind == "u":
        values = np.minimum(values, 2**62).astype(np.int64)
    if values.dtype.kind == "f":
        good = good & np.isfinite(values) & (np.abs(values) < 2.0**62)
        values = np.where(good, values, 0)
    if unit == "iso":
        return np.zeros(len(values), np.int64), np.zeros(len(values), bool)
    if unit == "auto":
        size = np.abs(values)
        pers = [per for _, per in _STEPS]
        per = np.select([size < limit for limit, _ in _STEPS], pers, default=_BEYOND)
    else:
        per = np.full(len(values), PER_SECOND[unit])
    return np.floor_divide(values, per).astype(np.int64), good


def _texts(column: pa.Array, unit: str) -> tuple[np.ndarray, np.ndarray]:
    plain = pc.match_substring_regex(column, r"^\d{1,18}$")
    if unit != "iso" and pc.all(plain).as_py() and pc.count(column).as_py():
        return _numbers(
            column.cast(pa.int64()), unit
        )  # the usual file of numbers: ten times faster
    encoded = pc.fill_null(column, "").dictionary_encode()
    read = [parse(text, unit) for text in encoded.dictionary.to_pylist()]
    good = np.array([second is not None for second in read], bool)
    seconds = np.array([second or 0 for second in read], np.int64)
    index = encoded.indices.to_numpy(zero_copy_only=False)
    return (
        (seconds[index], good[index]) if len(read) else (np.zeros(0, np.int64), np.zeros(0, bool))
    )
