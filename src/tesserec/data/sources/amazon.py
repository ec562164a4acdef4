"""What the two generations of Amazon review files share."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tesserec.data.records import BATCH_ROWS, Chunk
from tesserec.data.sources.readers import need_file
from tesserec.errors import UsageError

_TAG, _SPACE = re.compile(r"<[^<>]+>"), re.compile(r"\s+")
ITEM_TEXT = ("item_id", "title", "brand", "categories", "price", "description", "keywords")


def clean(text: Any) -> str | None:
    """Text with HTML entities decoded, tags removed and white space folded; lists are joined."""
    if text is None:
        return None
    if isinstance(text, list):
        text = " ".join(str(part) for part in text if part)
    # Entities come first: the files hold both "<b>" and "&lt;b&gt;", and mean mark-up by either.
    return _SPACE.sub(" ", _TAG.sub(" ", html.unescape(str(text)))).strip() or None


def find(folder: Path, name: str, fits: Callable[[str], bool], what: str) -> Path:
    """The file `name`, or the only one of the folder that fits.

    Raises:
        UsageError: none, or several.
    """
    if name:
        return need_file(folder, name)
    found = sorted(p.name for p in folder.iterdir() if fits(p.name)) if folder.is_dir() else []
    if len(found) != 1:
        have = f"has several: {', '.join(found[:5])}" if found else "has none"
        raise UsageError(f"{folder} must have one {what}, but {have}; name it in the data section")
    return need_file(folder, found[0])


class ItemsOfReviews:
    """Metadata files list a whole shop; the items are those that somebody reviewed."""

    def __init__(self) -> None:
        self.notes: dict[str, int] = {}
        self._reviewed: dict[str, None] = {}

    def reviewed(self, reviews: Iterator[Chunk]) -> dict[str, None]:
        """Ids of all reviewed items in order of appearance; read once."""
        if not self._reviewed:
            for chunk in reviews:
                for name in chunk.table["item_id"].unique().to_pylist():
                    if name and name.strip():
                        self._reviewed.setdefault(name.strip())
        return self._reviewed

    def complete(self, described: Iterator[Chunk], file: str) -> Iterator[Chunk]:
        """The described items, then those that have reviews and no description."""
        missing = dict(self._reviewed)
        for chunk in described:
            for name in chunk.table["item_id"].to_pylist():
                missing.pop(name, None)
            yield chunk
        self.notes["items_without_metadata"] = len(missing)
        names = list(missing)
        for start in range(0, len(names), BATCH_ROWS):
            part = pa.array(names[start : start + BATCH_ROWS], pa.string())
            rows = np.arange(start, start + len(part))
            yield Chunk(pa.table({"item_id": part}), f"{file} (no metadata)", rows)
