"""What serving needs of the feature store, and how it is opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

PATIENCE_S = 3.0  # a read of a silent store ends after it; a late row is still worth remembering


class UserRow(Protocol):
    """One user's features (tesserec.features.store.UserFeatures)."""

    @property
    def history(self) -> Sequence[str]: ...  # item ids, oldest first, recent events included

    @property
    def seen(self) -> set[str]: ...

    @property
    def known(self) -> bool: ...


class Reader(Protocol):
    """One row of features a user, read from the online store."""

    @property
    def service(self) -> str: ...

    @property
    def schema_hash(self) -> str: ...

    def read(self, user_ids: Sequence[str]) -> Sequence[UserRow]: ...


def open_reader(workdir: Path) -> Reader:
    """Open the working folder's feature store; imports Feast, which takes 8 to 16 s."""
    from tesserec.features.store import FeatureReader

    return FeatureReader(workdir / "feature_store", patience_s=PATIENCE_S)
