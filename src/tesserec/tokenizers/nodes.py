"""Names of hierarchical codes that depend on the path: each node of the tree has its own.

A tokenizer that was fitted anew cuts the items in other ways, but below a first digit that means
the same as before a child may again be one of before. So a node's permutation renames its children
to those that they resemble (`retokenization/paths.py`). A node without one leaves names alone, so
most entries need not be stored, and no two paths ever get one name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FILE = "nodes.safetensors"


@dataclass(frozen=True, kw_only=True)
class Level:
    """Names below the nodes of one level; a key is node * size + code."""

    known: np.ndarray  # int64 [n], ascending: the key of each node of the next level
    moved: np.ndarray  # int64 [k], ascending: keys of the codes that have another name
    names: np.ndarray  # int64 [k]: these names


class Nodes:
    """Names of codes below `size` on each of the levels."""

    def __init__(self, levels: Sequence[Level], size: int) -> None:
        self.levels = list(levels)
        self.size = size
        self._back = [_inverse(level, size) for level in levels]

    def named(self, plain: np.ndarray) -> np.ndarray:
        """[N, m] plain codes (rows of the centres) -> their names."""
        out, node = plain.copy(), np.zeros(len(plain), dtype=np.int64)
        for j, level in enumerate(self.levels):
            out[:, j] = self._exchanged(level.moved, level.names, node, plain[:, j])
            node = self._below(level, node, plain[:, j])
        return out

    def plain(self, named: np.ndarray) -> np.ndarray:
        """The inverse of `named`."""
        out, node = named.copy(), np.zeros(len(named), dtype=np.int64)
        for j, level in enumerate(self.levels):
            out[:, j] = self._exchanged(*self._back[j], node, named[:, j])
            node = self._below(level, node, out[:, j])
        return out

    def save(self, folder: Path) -> None:
        from safetensors.numpy import save_file

        arrays = {"size": np.array([self.size], dtype=np.int64)}
        for j, level in enumerate(self.levels):
            for name in ("known", "moved", "names"):
                arrays[f"{name}_{j}"] = np.ascontiguousarray(getattr(level, name))
        save_file(arrays, folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> Nodes | None:
        """What `save` wrote; None where nothing was."""
        from safetensors.numpy import load_file

        if not (folder / FILE).is_file():
            return None
        arrays = load_file(folder / FILE)
        levels = [
            Level(
                known=arrays[f"known_{j}"], moved=arrays[f"moved_{j}"], names=arrays[f"names_{j}"]
            )
            for j in range(len(arrays) // 3)
        ]
        return cls(levels, int(arrays["size"][0]))

    def _exchanged(
        self, keys: np.ndarray, values: np.ndarray, node: np.ndarray, codes: np.ndarray
    ) -> np.ndarray:
        at, found = _find(keys, node * self.size + codes)
        return np.where(found & (node >= 0), values[at] if len(values) else 0, codes)

    def _below(self, level: Level, node: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """The node of the next level; -1: one that has no names of its own."""
        at, found = _find(level.known, node * self.size + codes)
        return np.where(found & (node >= 0), at, -1)


def _find(keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each is in ascending `keys`, and whether it is there at all."""
    if not len(keys):
        return np.zeros(len(wanted), dtype=np.int64), np.zeros(len(wanted), dtype=bool)
    at = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return at, keys[at] == wanted


def _inverse(level: Level, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys by name instead of code, ascending, and the codes."""
    keys = level.moved // size * size + level.names
    order = np.argsort(keys)
    return keys[order], (level.moved % size)[order]
