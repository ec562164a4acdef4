"""Codes made elsewhere, joined to item ids by the source row before any row is removed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tesserec.config import TokenizerConfig
from tesserec.errors import DataError, UsageError


def codes_file(folder: Path, name: str) -> Path:
    """The path of the codes, relative to the data's folder.

    Raises:
        UsageError: it is not there, or isn't .npy.
    """
    path = folder / name
    if not path.is_file():
        raise UsageError(f"tokenizer.codes is {name!r}; there is no such file in {folder}")
    if path.suffix != ".npy":
        raise UsageError(f"tokenizer.codes is {name!r}; use a .npy file of whole numbers")
    return path


def join_codes(
    path: Path,
    config: TokenizerConfig,
    item_ids: pa.StringArray,
    source_rows: np.ndarray,
    rows_in_source: int,
    out: Path,
) -> None:
    """Write `codes.npy` (uint8 or uint16 [n, m]) and `item_ids.parquet` for the kept items.

    The file has one row for each of the `rows_in_source` rows of the items source, kept or not.

    Raises:
        DataError: another number of rows or digits, no whole numbers, or a code that the code book
            hasn't.
    """
    try:
        source = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(
            f"{path.name} is not a .npy array ({error}); write it with numpy.save"
        ) from None
    if source.ndim != 2 or source.dtype.kind not in "iu":
        raise DataError(
            f"{path.name} holds {source.dtype} {source.shape}; use whole numbers [items, digits]"
        )
    if len(source) != rows_in_source:
        raise DataError(
            f"{path.name} has {len(source)} rows, the items source {rows_in_source}; "
            "row i must belong to row i"
        )
    if source.shape[1] != config.digits:
        raise DataError(
            f"{path.name} has {source.shape[1]} digits, tokenizer.digits is {config.digits}; "
            "make them equal"
        )
    codes = source[source_rows]
    if codes.size and not 0 <= codes.min() <= codes.max() < config.codebook_size:
        row, digit = (int(a[0]) for a in np.nonzero((codes < 0) | (codes >= config.codebook_size)))
        raise DataError(
            f"{path.name}: code {codes[row, digit]} of item {item_ids[row].as_py()!r}, digit "
            f"{digit}, is not below tokenizer.codebook_size {config.codebook_size}"
        )
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / "codes.npy", codes.astype(np.uint8 if config.codebook_size <= 256 else np.uint16))
    pq.write_table(pa.table({"item_id": item_ids}), out / "item_ids.parquet", compression="zstd")
