"""What a client shows beside an item id: its title and semantic ID, read from the release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from safetensors.numpy import load_file

from tesserec.release.manifest import part_path, parts_of, read_release, release_folder


@dataclass(frozen=True)
class ItemFacts:
    """Title and codes of one item; None and empty where the release does not know it."""

    title: str | None
    sid: list[int]


def titles_and_sids(
    workdir: Path, release_id: str, item_ids: Sequence[str]
) -> dict[str, ItemFacts]:
    """Facts of these items in a release of the workdir; an unknown item gets empty ones."""
    wanted = set(item_ids)
    facts = {item: ItemFacts(None, []) for item in wanted}
    folder = release_folder(workdir, release_id)
    parts = read_release(folder)["parts"]
    for items_part, codes_part in zip(
        parts_of(parts["items"]), parts_of(parts["codes"]), strict=True
    ):
        items = pq.read_table(part_path(folder, items_part), columns=["item_id", "title"])
        codes = load_file(part_path(folder, codes_part))["codes"]
        titles = items["title"].to_pylist()
        for row, item in enumerate(items["item_id"].to_pylist()):
            if item in wanted:
                facts[item] = ItemFacts(titles[row], codes[row].tolist())
    return facts
