from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesserec.data.times import parse, seconds_of

moments = st.datetimes(datetime(1975, 1, 1), datetime(2090, 1, 1)).map(
    lambda moment: moment.replace(tzinfo=UTC)
)


def read(column: pa.Array, unit: str = "auto") -> list[int | None]:
    seconds, good = seconds_of(column, unit)
    return [int(s) if ok else None for s, ok in zip(seconds, good, strict=True)]


@given(moments, st.integers(-12, 12))
def test_all_spellings_of_a_moment_give_the_same_second(moment: datetime, hours: int) -> None:
    second = int(moment.replace(microsecond=0).timestamp())
    micros = second * 1_000_000 + moment.microsecond
    zone = timezone(timedelta(hours=hours))
    texts = [
        moment.isoformat(),
        moment.isoformat(sep=" "),
        moment.isoformat().replace("+00:00", "Z"),
        moment.replace(tzinfo=None).isoformat(),
        moment.astimezone(zone).isoformat(),
        str(second),
        f" {second} ",
        str(micros),
        str(micros // 1000),
        f"{second}.5",
    ]
    assert read(pa.array(texts)) == [second] * len(texts)
    for numbers in (pa.array([second]), pa.array([micros]), pa.array([second], pa.uint64())):
        assert read(numbers) == [second]
    for unit in ("s", "ms", "us", "ns"):
        assert read(
            pa.array([moment], pa.timestamp("us", "UTC")).cast(pa.timestamp(unit), False)
        ) == [second]


@given(
    st.lists(st.one_of(st.none(), st.text(max_size=12), st.integers(-(10**20), 10**20).map(str)))
)
def test_a_column_is_read_as_its_cells_are(texts: list[str | None]) -> None:
    texts = [t for t in texts if t is None or t.isprintable()]
    for unit in ("auto", "s", "ms", "us", "iso"):
        expected = [None if t is None else parse(t, unit) for t in texts]
        assert read(pa.array(texts, pa.string()), unit) == expected


@given(st.lists(st.integers(-(10**15), 10**18)))
def test_numbers_and_their_texts_agree(numbers: list[int]) -> None:
    for unit in ("auto", "s", "ms", "us"):
        column = pa.array(numbers, pa.int64())
        assert read(column, unit) == read(column.cast(pa.string()), unit)


def test_units_are_as_told() -> None:
    assert read(pa.array([1_700_000_000_000]), "ms") == [1_700_000_000]
    assert read(pa.array([1_700_000_000_000]), "s") == [1_700_000_000_000]
    assert read(pa.array(["20240229"]), "iso") == [1_709_164_800]
    assert read(pa.array([1_700_000_000]), "iso") == [None]
    assert read(pa.array(["2024-02-29"]), "s") == [None]
    assert read(pa.array([1.5e9, float("nan"), float("inf"), None])) == [1_500_000_000] + [None] * 3


def test_dates_nulls_and_types_that_hold_no_time() -> None:
    assert read(pa.array([date(1970, 1, 2), None])) == [86_400, None]
    assert read(pa.nulls(2)) == [None, None]
    assert read(pa.array(["1970-01-02", "1970-01-02"]).dictionary_encode()) == [86_400, 86_400]
    assert read(pa.array(["", "soon", "2024-13-01", "nan"])) == [None] * 4
    with pytest.raises(TypeError, match="list"):
        seconds_of(pa.array([[1]]), "auto")
