"""The canary set: fixed items that are encoded again before every run; any difference stops it.

A library, a processor or a file that has changed moves codes without a word. The content of up to
1,000 items and the vectors that it gave lie beside the encoder, the codes beside the tokenizer.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from tesserec.data.content import CONTENT
from tesserec.encoders import ContentEncoder
from tesserec.errors import GateFailed

FOLDER, ITEMS, VECTORS = "canary", "items.parquet", "vectors.safetensors"  # below encoder/
CODES = "canary.safetensors"  # in tokenizer/
SIZE = 1000
CLOSE = 1e-4  # relative; vectors may differ in their last bits (docs/tokenizers.md), codes never


def write_canary(folder: Path, items: pa.Table, encoder: ContentEncoder) -> None:
    """Choose the items by a hash of their ids; keep their content and vectors.

    Args:
        folder: the encoder's; the set goes below it.
        items: those that the encoder was fitted on.
    """
    home = folder / FOLDER
    home.mkdir(parents=True, exist_ok=True)
    chosen = items.take(pa.array(_chosen(items["item_id"].to_pylist())))
    columns = ["item_id", *(name for name in CONTENT if name in items.column_names)]
    pq.write_table(chosen.select(columns).replace_schema_metadata(None), home / ITEMS)
    raw = encoder.encoder.encode(chosen)
    arrays = {"vectors": encoder.whitening.apply(raw)}
    if encoder.encoder.name == "precomputed":  # the others make it again of the content
        arrays["raw"] = raw
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, home / VECTORS)


def write_canary_codes(encoder_folder: Path, tokenizer: Any, folder: Path) -> None:
    """Keep what the tokenizer makes of the set's vectors in its own `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    vectors = load_file(encoder_folder / FOLDER / VECTORS)["vectors"]
    save_file({"codes": np.ascontiguousarray(tokenizer.encode(vectors))}, folder / CODES)


def check_canary(
    encoder_folder: Path, encoder: ContentEncoder, tokenizer_folder: Path, tokenizer: Any
) -> int:
    """Encode the set again and compare; how many items it has (0: the release has none).

    Raises:
        GateFailed: a code, or more than the last bits of a vector, is another one.
    """
    home, codes = encoder_folder / FOLDER, tokenizer_folder / CODES
    if not (home / VECTORS).is_file() or not codes.is_file():
        return 0
    items, kept = pq.read_table(home / ITEMS), load_file(home / VECTORS)
    raw = kept["raw"] if "raw" in kept else encoder.encoder.encode(items)
    vectors = encoder.whitening.apply(raw)
    wrong = (tokenizer.encode(vectors) != load_file(codes)["codes"]).any(axis=1)
    far = np.abs(vectors - kept["vectors"]).max(axis=1, initial=0.0)
    wide = np.abs(kept["vectors"]).max(axis=1, initial=0.0)
    moved = ~(far <= CLOSE * np.maximum(wide, 1.0))  # a NaN too
    if wrong.any() or moved.any():
        first = items["item_id"][int(np.flatnonzero(wrong | moved)[0])].as_py()
        raise GateFailed(
            f"the canary set is encoded otherwise than when the release was made: {wrong.sum()} of "
            f"{len(wrong)} items get other codes, {moved.sum()} other vectors, {first!r} is the "
            f"first (largest difference {far.max():.3g}). A library, the processor or a file of "
            "encoder or tokenizer has changed: nothing was encoded. Restore it, or rebuild "
            "(docs/retokenization.md)"
        )
    return len(wrong)


def _chosen(item_ids: list[str]) -> np.ndarray:
    digests = [hashlib.blake2b(i.encode(), digest_size=8).digest() for i in item_ids]
    return np.sort(np.array(sorted(range(len(digests)), key=digests.__getitem__)[:SIZE], np.int64))
