"""A release in memory: what answers requests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from tesserec.decoders.constraints import pack_bits
from tesserec.serving.catalogue import Catalogue
from tesserec.serving.features import Reader


@dataclass(frozen=True)
class Loaded:
    """What answers requests; never changed, only replaced as a whole between two batches."""

    release_id: str
    recommender: Any  # tesserec.recommender.Recommender
    reader: Reader
    catalogue: Catalogue
    withdrawn: frozenset[str] = frozenset()

    @cached_property
    def shown(self) -> np.ndarray:
        """bool [N]: available and not withdrawn."""
        shown = self.catalogue.available.copy()
        shown[self.catalogue.rows(self.withdrawn)] = False
        return shown

    @cached_property
    def shown_bits(self) -> np.ndarray | None:
        """`shown`, packed; None if all are shown."""
        return None if self.shown.all() else pack_bits(self.shown)

    def withdraw(self, items: frozenset[str]) -> Loaded:
        """The same release without these items."""
        return replace(self, withdrawn=items)
