from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tesserec.encoders.text import clean, item_texts

MakeItems = Callable[[list[dict[str, Any]]], pa.Table]


def test_all_fields_in_order_without_names(make_items: MakeItems) -> None:
    row = {
        "image_caption": "a bottle",
        "description": "Smells <b>good</b> &amp; lasts!",
        "keywords": "nail polish",
        "price": 12.5,
        "categories": ["Beauty > Nails > Polish", "Beauty > Gifts"],
        "brand": "OPI",
        "title": "Red",
    }
    assert item_texts(make_items([row])) == [
        "Red. OPI. Beauty, Nails, Polish, Gifts. 12.50. nail polish. Smells good & lasts! a bottle."
    ]


def test_nulls_empty_values_and_missing_columns_are_no_text(make_items: MakeItems) -> None:
    items = make_items([{}, {"title": "  ", "categories": [], "price": float("nan")}])
    assert item_texts(items) == ["", ""]
    assert item_texts(pa.table({"item_id": ["a"], "title": ["Soap"]})) == ["Soap."]


def test_null_column_of_arrow_type_null() -> None:
    items = pa.table({"item_id": ["a"], "title": ["Soap"], "brand": pa.nulls(1)})
    assert item_texts(items) == ["Soap."]


def test_letters_of_every_language_stay() -> None:
    assert clean("\t Crème&nbsp;brûlée\n 東京 <br/> &lt;3") == "Crème brûlée 東京 <3"


@given(st.text())
@settings(deadline=None)
def test_cleaned_text_has_plain_spaces_only(text: str) -> None:
    cleaned = clean(text)
    assert cleaned == cleaned.strip() and "  " not in cleaned and "\n" not in cleaned
