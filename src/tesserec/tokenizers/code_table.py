"""The code table: item id -> semantic ID. It grows at the end; rows never move or change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tesserec.errors import ArtifactError, DataError
from tesserec.lineage import metadata

CODES = "codes.safetensors"
ITEM_IDS = "item_ids.parquet"


class CodeTable:
    """Codes [N, m] with one item id a row. The table, not the tokenizer, is authoritative."""

    def __init__(
        self, item_ids: Sequence[str], codes: np.ndarray, trained: np.ndarray | None = None
    ) -> None:
        """`trained` [N]: whether the item was among those that the tokenizer was fitted on.

        Raises:
            DataError: shapes that do not fit, codes of another type, an id that occurs twice.
        """
        if codes.ndim != 2 or codes.dtype not in (np.uint8, np.uint16):
            raise DataError(
                f"codes are {codes.dtype} {list(codes.shape)}; they must be uint8 or uint16 [N, m]"
            )
        self._codes = codes[:0].copy()
        self._trained = np.zeros(0, dtype=bool)
        self._row_of: dict[str, int] = {}
        self._items_of: dict[bytes, list[int]] | None = None
        self._ids: list[str] = []
        self.append(item_ids, codes, trained)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def item_ids(self) -> list[str]:
        """All ids in row order (a copy)."""
        return list(self._ids)

    @property
    def codes(self) -> np.ndarray:
        """All codes [N, m], read-only."""
        return self._codes

    @property
    def trained(self) -> np.ndarray:
        """bool [N], read-only: the items that the tokenizer was fitted on."""
        return self._trained

    def rows_of(self, item_ids: Sequence[str]) -> np.ndarray:
        """int64 rows of the ids.

        Raises:
            DataError: an id is not in the table.
        """
        unknown = [item_id for item_id in item_ids if item_id not in self._row_of]
        if unknown:
            raise DataError(
                f"{len(unknown)} of {len(item_ids)} items have no code, the first is "
                f"{unknown[0]!r}; encode and append them first"
            )
        return np.fromiter((self._row_of[i] for i in item_ids), np.int64, len(item_ids))

    def codes_of(self, item_ids: Sequence[str]) -> np.ndarray:
        """[n, m] codes of the ids.

        Raises:
            DataError: an id is not in the table.
        """
        return self._codes[self.rows_of(item_ids)]

    def items_of(self, codes: np.ndarray) -> list[list[str]]:
        """The ids of each tuple of `codes` [n, m], in row order; [] where there is none."""
        if codes.ndim != 2 or codes.shape[1] != self._codes.shape[1]:
            raise DataError(
                f"codes are {list(codes.shape)}; this table has {self._codes.shape[1]} digits"
            )
        if self._items_of is None:
            self._items_of = {}
            self._index(0)
        # A value beyond the table's type is a code that no item has; it must not wrap round.
        fits = (codes == codes.astype(self._codes.dtype)).all(axis=1)
        keys = codes.astype(self._codes.dtype)
        return [
            [self._ids[row] for row in self._items_of.get(key.tobytes(), [])] if ok else []
            for key, ok in zip(keys, fits, strict=True)
        ]

    def append(
        self, item_ids: Sequence[str], codes: np.ndarray, trained: np.ndarray | None = None
    ) -> np.ndarray:
        """Add items after the last row and return their rows; all or nothing.

        Raises:
            DataError: an id that is there already or comes twice; codes of another shape or type.
        """
        new = list(item_ids)
        flags = (
            np.zeros(len(new), dtype=bool) if trained is None else np.asarray(trained, dtype=bool)
        )
        if codes.dtype != self._codes.dtype or codes.shape != (len(new), self._codes.shape[1]):
            raise DataError(
                f"codes to append are {codes.dtype} {list(codes.shape)}, the table takes "
                f"{self._codes.dtype} [{len(new)}, {self._codes.shape[1]}]; "
                "use the release's tokenizer"
            )
        if len(flags) != len(new):
            raise DataError(f"`trained` has {len(flags)} rows for {len(new)} items")
        known: set[str] = set()
        for item_id in new:
            if item_id in self._row_of or item_id in known:
                raise DataError(
                    f"item {item_id!r} has a code already; codes never change inside a table"
                )
            known.add(item_id)
        first = len(self)
        self._ids.extend(new)
        self._row_of.update((item_id, first + i) for i, item_id in enumerate(new))
        self._codes = _frozen(np.concatenate([self._codes, codes]))
        self._trained = _frozen(np.concatenate([self._trained, flags]))
        if self._items_of is not None:
            self._index(first)
        return np.arange(first, len(self), dtype=np.int64)

    def save(self, folder: Path, lineage: str | None = None) -> None:
        """Write `codes.safetensors` {codes} and `item_ids.parquet` (item_id, trained).

        `lineage`: of the tokenizer whose codes they are.
        """
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        arrays = {"codes": np.ascontiguousarray(self._codes)}
        save_file(arrays, folder / CODES, metadata=metadata(lineage))
        columns = {"item_id": pa.array(self._ids, pa.string()), "trained": pa.array(self._trained)}
        pq.write_table(pa.table(columns), folder / ITEM_IDS)

    @classmethod
    def load(cls, folder: Path) -> CodeTable:
        """What `save` wrote.

        Raises:
            ArtifactError: a file is missing, or the two have different numbers of rows.
        """
        from safetensors.numpy import load_file

        for name in (CODES, ITEM_IDS):
            if not (folder / name).is_file():
                raise ArtifactError(f"{folder} is no code table: it has no {name}")
        codes = load_file(folder / CODES)["codes"]
        table = pq.read_table(folder / ITEM_IDS)
        if table.num_rows != len(codes):
            raise ArtifactError(
                f"{folder}: {len(codes)} codes for {table.num_rows} items; make the artefact again"
            )
        return cls(table["item_id"].to_pylist(), codes, table["trained"].to_numpy())

    def _index(self, first: int) -> None:
        lookup = self._items_of
        if lookup is None:
            return
        for row in range(first, len(self)):
            lookup.setdefault(self._codes[row].tobytes(), []).append(row)


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
