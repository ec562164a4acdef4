"""A release in memory: what answers requests, and how it gets there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tesserec.decoders.constraints import Constraints, pack_bits
from tesserec.errors import ServingError
from tesserec.release.manifest import read_release, release_folder
from tesserec.release.verify import Hashes, require_sound
from tesserec.serving.catalogue import Catalogue
from tesserec.serving.features import Reader
from tesserec.serving.judge import Tally

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """What answers requests; never changed, only replaced as a whole between two batches."""

    release_id: str
    recommender: Any  # tesserec.recommender.Recommender
    reader: Reader
    catalogue: Catalogue
    withdrawn: frozenset[str] = frozenset()
    tally: Tally = field(default_factory=Tally)

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


class Loader:
    """Checks, loads and warms releases of a working folder.

    Args:
        reader: opens the feature store of a working folder.
        load: loads a recommender from a release's folder, beside others whose parts it may share.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        reader: Callable[[Path], Reader],
        load: Callable[..., Any],
    ) -> None:
        self._workdir = workdir
        self._open_reader = reader
        self._load_recommender = load
        self._hashes = Hashes()

    def load(self, release_id: str, beside: Sequence[Loaded] = ()) -> Loaded:
        """A release, ready to answer; parts that the others hold are shared with them.

        Raises:
            TesserecError: damaged, or the feature registry hasn't its service with its schema.
        """
        folder = release_folder(self._workdir, release_id)
        require_sound(folder, self._hashes)
        reader = self._reader_for(read_release(folder))
        recommender = self._load_recommender(folder, beside=[one.recommender for one in beside])
        # not row_of, which a release with patched items shares with the one before
        same = [b.catalogue for b in beside if b.catalogue.items is recommender.items]
        catalogue = same[0] if same else Catalogue(recommender.items, recommender.row_of)
        loaded = Loaded(release_id, recommender, reader, catalogue)
        _warm(loaded)
        return loaded

    def _reader_for(self, manifest: dict[str, Any]) -> Reader:
        wanted = (manifest["feature_service"], manifest["feature_schema_hash"])
        # anew for each release: its run may have changed the store's settings, and the former
        # one is in use by another thread
        reader = self._open_reader(self._workdir)
        found = (reader.service, reader.schema_hash)
        if found != wanted:
            raise ServingError(
                f"release {manifest['release_id']} needs feature service {wanted[0]} with schema "
                f"{wanted[1]}; the registry has {found[0]} with {found[1]}. "
                "Apply the feature repository of this release, or promote another one"
            )
        return reader


def load_recommender(folder: Path, beside: Sequence[Any] = ()) -> Any:
    """The release's recommender; imports torch."""
    from tesserec.recommender import Recommender

    return Recommender.load(folder, beside=beside)


def _warm(loaded: Loaded) -> None:
    """Do once what the first request would wait for. A silent store is no reason not to serve."""
    rules = Constraints(allowed=loaded.shown_bits)
    loaded.catalogue.warm()
    loaded.recommender.warm()
    loaded.recommender.recommend([loaded.recommender.item_ids[:2]], 1, rules)
    loaded.recommender.popular(1, rules)
    try:
        loaded.reader.read([""])
    except Exception:  # whatever the store's driver raises; requests degrade until it answers
        log.exception("the feature store does not answer")
