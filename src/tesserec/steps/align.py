"""Step `align`: codes of a tokenizer that was fitted anew get the names that they had before."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesserec.artifacts import Artifact, build, write_atomic
from tesserec.config import RunConfig

if TYPE_CHECKING:
    import numpy as np

    from tesserec.retokenization.stock import Stock

VERSION = 1


def run(workdir: Path, config: RunConfig, codes: Artifact, vectors: Artifact) -> Artifact:
    """A `codes` artefact as that of `tokenize`, renamed to resemble the promoted release's codes;
    besides `alignment.json` {release, overlap, before, after: {items, digits}} (churn against the
    release, without and with new names) and `aliases.safetensors` {rows, codes}: the codes that
    items had before, where they are other ones now (`retokenization.aliases`).

    Parallel codes are renamed digit by digit (Hungarian), hierarchical ones along their paths.
    """
    from tesserec.retokenization.stock import open_stock

    stock = open_stock(workdir)

    aliases = config.retokenization.aliases

    def make(folder: Path) -> None:
        _make(folder, stock, codes, vectors, aliases=aliases)

    params = {"release": stock.release_id, "aliases": aliases}
    parents = [codes, vectors]
    return build(workdir, "codes", params=params, parents=parents, version=VERSION, make=make)[0]


def old_rows(stock: Stock, item_ids: list[str]) -> np.ndarray:
    """int64 [n]: the release's row of each item; -1: it has none, or is in quarantine there."""
    import numpy as np

    from tesserec.retokenization import life

    row_of = {item: row for row, item in enumerate(stock.item_ids)}
    rows = np.array([row_of.get(item, -1) for item in item_ids], np.int64)
    waiting = life.in_status(stock.items, life.QUARANTINED)
    rows[(rows >= 0) & waiting[rows]] = -1
    return rows


def _make(folder: Path, stock: Stock, codes: Artifact, vectors: Artifact, *, aliases: bool) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    from tesserec.lineage import begin_lineage
    from tesserec.release.build import ALIASES
    from tesserec.retokenization.alignment import hungarian, renamed, renamed_codes
    from tesserec.retokenization.canary import write_canary_codes
    from tesserec.retokenization.churn import churn
    from tesserec.retokenization.paths import along_paths
    from tesserec.retokenization.reference import FOLDER
    from tesserec.tokenizers import CodeTable, load_tokenizer

    table = CodeTable.load(codes.path)
    tokenizer = load_tokenizer(codes.file("tokenizer"))
    rows = old_rows(stock, table.item_ids)
    both = rows >= 0
    old, new = stock.codes[rows[both]], table.codes[both]
    if tokenizer.hierarchical:
        other = along_paths(tokenizer, old, new)
        named = other.named(table.codes)
    else:
        names = hungarian(old, new, tokenizer.centres.shape[1])
        other, named = renamed(tokenizer, names), renamed_codes(table.codes, names)
    named = named.astype(table.codes.dtype)
    home = folder / "tokenizer"
    other.save(home)
    lineage = begin_lineage(home)
    CodeTable(table.item_ids, named, table.trained).save(folder, lineage)
    write_canary_codes(vectors.file("encoder"), other, home)
    if (codes.file("tokenizer") / FOLDER).is_dir():
        shutil.copytree(codes.file("tokenizer") / FOLDER, home / FOLDER)
    shutil.copyfile(codes.file("quality.json"), folder / "quality.json")
    found: dict[str, Any] = {"release": stock.release_id, "overlap": int(both.sum())}
    for name, now in (("before", new), ("after", named[both])):
        moved = churn(old, now)
        found[name] = {"items": moved.items, "digits": moved.digits}
    write_atomic(folder / "alignment.json", json.dumps(found, indent=1))
    if not aliases:
        return
    changed = np.flatnonzero(both)[(named[both] != old).any(axis=1)]
    arrays = {"rows": changed, "codes": np.ascontiguousarray(stock.codes[rows[changed]])}
    save_file(arrays, folder / ALIASES)
