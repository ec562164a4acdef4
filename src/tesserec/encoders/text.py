"""One text an item, of the columns of the data contract (Hou et al., KDD 2025, released code)."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

import pyarrow as pa

from tesserec.data.content import CONTENT

_TAG = re.compile(r"<[^<>]{0,500}>")
_SPACE = re.compile(r"\s+")


def clean(text: str) -> str:
    """Unescape HTML, drop tags, fold white space. Letters of every language are kept."""
    return _SPACE.sub(" ", _TAG.sub(" ", html.unescape(text))).strip()


def item_texts(items: pa.Table) -> list[str]:
    """The text of each row of `items`, in row order; "" where an item has no text at all.

    Fields come in the order of CONTENT without their names, each closed by a full stop. A missing
    column counts as a column of nulls.
    """
    columns = [
        items.column(name).to_pylist() if name in items.column_names else [None] * items.num_rows
        for name in CONTENT
    ]
    return [_join(values) for values in zip(*columns, strict=True)]


def _join(values: Iterable[object]) -> str:
    parts = [part for part in map(_field, values) if part]
    return " ".join(part if part.endswith((".", "!", "?")) else f"{part}." for part in parts)


def _field(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float | int):
        return f"{value:.2f}" if value == value else ""  # NaN is no price
    if isinstance(value, list):  # category paths: levels joined by " > "
        levels = [clean(level) for path in value if path for level in str(path).split(" > ")]
        return ", ".join(dict.fromkeys(level for level in levels if level))
    return clean(str(value))
