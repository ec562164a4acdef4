"""MovieLens as GroupLens publishes it: 100K (u.data), 1M and 10M (.dat), the later ones (.csv)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from tesserec.config import DataConfig
from tesserec.data.compute import pc
from tesserec.data.records import Chunk
from tesserec.data.sources.readers import need_file, opened, read_delimited
from tesserec.errors import UsageError

RATING = ("user", "item", "rating", "time")
OURS = {"user_id": "user", "item_id": "item", "timestamp": "time"}
NO_GENRE = "(no genres listed)"
U_ITEM = ("item", "title", "released", "video", "link")  # and then a flag for each genre


class MovieLens:
    """Every rating is an interaction, whatever its number of stars; genres are the categories."""

    has_items = True
    time_unit = "s"

    def __init__(self, config: DataConfig, seed: int) -> None:
        folder = Path(config.path)
        if (folder / "u.data").exists():
            self._ratings, self._movies = need_file(folder, "u.data"), need_file(folder, "u.item")
            self._extra = [need_file(folder, "u.genre")]
        else:
            kinds = [kind for kind in ("dat", "csv") if (folder / f"ratings.{kind}").exists()]
            if not kinds:
                raise UsageError(
                    f"{folder} has no u.data, ratings.dat or ratings.csv; "
                    "set data.path to an unpacked MovieLens folder"
                )
            self._ratings = need_file(folder, f"ratings.{kinds[0]}")
            self._movies = need_file(folder, f"movies.{kinds[0]}")
            self._extra = []

    def files(self) -> list[Path]:
        return [self._ratings, self._movies, *self._extra]

    def interactions(self) -> Iterator[Chunk]:
        path, must = self._ratings, ("user_id", "item_id", "timestamp")
        if path.name == "u.data":
            yield from read_delimited(path, OURS, must, delimiter="\t", header=RATING, quoted=False)
        elif path.suffix == ".dat":
            yield from read_delimited(path, OURS, must, delimiter="::", header=RATING, quoted=False)
        else:
            columns = {"user_id": "userId", "item_id": "movieId", "timestamp": "timestamp"}
            yield from read_delimited(path, columns, must)

    def items(self) -> Iterator[Chunk]:
        if self._movies.name == "u.item":
            yield from self._of_100k()
            return
        if self._movies.suffix == ".dat":
            columns = {"item_id": "item", "title": "title", "categories": "genres"}
            chunks = read_delimited(
                self._movies, columns, tuple(columns), delimiter="::", quoted=False,
                header=tuple(columns.values()), encoding="latin-1",
            )  # fmt: skip
        else:
            columns = {"item_id": "movieId", "title": "title", "categories": "genres"}
            chunks = read_delimited(self._movies, columns, tuple(columns))
        for chunk in chunks:
            genres = pc.split_pattern(
                pc.replace_substring(_cell(chunk, "categories"), NO_GENRE, ""), "|"
            )
            at = chunk.table.column_names.index("categories")
            yield replace(chunk, table=chunk.table.set_column(at, "categories", genres))

    def _of_100k(self) -> Iterator[Chunk]:
        with opened(self._extra[0]) as stream:
            lines = stream.read().decode("latin-1").splitlines()
        genres = [line.split("|")[0] for line in lines if "|" in line]
        flags = {f"genre {name}": f"genre {name}" for name in genres}
        columns = {"item_id": "item", "title": "title", **flags}
        for chunk in read_delimited(
            self._movies, columns, tuple(columns), delimiter="|", quoted=False,
            header=(*U_ITEM, *flags), encoding="latin-1",
        ):  # fmt: skip
            marks = np.stack(
                [_cell(chunk, name).to_numpy(zero_copy_only=False) == "1" for name in flags]
            )
            lists = [[genres[g] for g in np.flatnonzero(row)] for row in marks.T]
            table = chunk.table.select(["item_id", "title"])
            table = table.append_column("categories", pa.array(lists, pa.list_(pa.string())))
            yield replace(chunk, table=table)


def _cell(chunk: Chunk, name: str) -> pa.Array:
    column = chunk.table[name].combine_chunks()
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
