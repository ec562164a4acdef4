"""Titles and semantic IDs of items, from a release's folder (for display; no torch, no server)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tesserec.errors import TesserecError
from tesserec.release.manifest import part_path, parts_of, read_release, release_folder


@dataclass(frozen=True)
class ItemFacts:
    """What is shown of an item; nulls where the release does not know it."""

    title: str | None = None
    sid: list[int] | None = None


def titles_and_sids(
    workdir: Path, release_id: str, item_ids: Iterable[str]
) -> dict[str, ItemFacts]:
    """Facts by item id; an unknown item, or a release that isn't on this machine, gives nulls."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from safetensors.numpy import load_file

    wanted = list(dict.fromkeys(item_ids))
    facts = {item: ItemFacts() for item in wanted}
    try:
        folder = release_folder(workdir, release_id)
        parts = read_release(folder)["parts"]
    except TesserecError:
        return facts
    files = [part_path(folder, part) for part in parts_of(parts["items"])]
    items = pa.concat_tables(pq.read_table(f, columns=["item_id", "title"]) for f in files)
    row_of = {item: row for row, item in enumerate(items["item_id"].to_pylist())}
    codes = None
    if "codes" in parts:
        tables = [load_file(part_path(folder, part))["codes"] for part in parts_of(parts["codes"])]
        codes = np.concatenate(tables)
    for item in wanted:
        row = row_of.get(item)
        if row is not None:
            sid = codes[row].tolist() if codes is not None else None
            facts[item] = ItemFacts(items["title"][row].as_py(), sid)
    return facts
