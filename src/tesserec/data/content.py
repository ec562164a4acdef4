"""What of an item its vector is made of, as one number: whether an item was edited."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa

from tesserec.data.compute import pc

# the text of an item (encoders/text.py), in that order
CONTENT = (
    "title", "brand", "categories", "price", "keywords", "description", "image_caption"
)  # fmt: skip
_FIELD, _VALUE = "\x1f", "\x1e"
# what stands for these in a text that holds them, so that other contents never look alike
_ESCAPED = str.maketrans({"\x1d": "\x1d0", _VALUE: "\x1d1", _FIELD: "\x1d2"})


def content_hashes(items: pa.Table) -> pa.Array:
    """int64 [N]: equal for equal content; null for an item that has none at all."""
    columns = [_text(items, name) for name in CONTENT]
    joined = pc.binary_join_element_wise(*columns, _FIELD)
    empty = _FIELD * (len(CONTENT) - 1)
    hashes = [
        None if text == empty else int.from_bytes(_digest(text), "big", signed=True)
        for text in joined.to_pylist()
    ]
    return pa.array(hashes, pa.int64())


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def _text(items: pa.Table, name: str) -> pa.Array:
    """A column as one string a row; a missing one, and a missing value, is the empty string."""
    if name not in items.column_names:
        return pa.array(np.full(items.num_rows, ""), pa.string())
    column = items[name].combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # none of zero rows has a chunk
        column = column.combine_chunks()
    if pa.types.is_list(column.type):
        column = pc.binary_join(_escaped(column.cast(pa.list_(pa.string()))), _VALUE)
        return pc.fill_null(column, "")
    return pc.fill_null(_escaped(column.cast(pa.string())), "")


def _escaped(column: pa.Array) -> pa.Array:
    texts = pc.list_flatten(column) if pa.types.is_list(column.type) else column
    if not pc.any(pc.match_substring_regex(texts, "[\\x1d-\\x1f]")).as_py():
        return column

    def escaped(value: str | list[str] | None) -> str | list[str] | None:
        if isinstance(value, list):
            return [text.translate(_ESCAPED) for text in value]
        return None if value is None else value.translate(_ESCAPED)

    return pa.array([escaped(value) for value in column.to_pylist()], column.type)
