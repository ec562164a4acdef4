"""Reading one user's features from Feast's online store, in process; both environments use it.

What a request is given is `user_history` (as of the last materialized watermark) merged with
`user_recent` (the events pushed since).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tesserec.errors import ServingError, UsageError, need
from tesserec.features.state import CONFIG, read_state

if TYPE_CHECKING:
    from feast import FeatureService, FeatureStore

SERVICE = "recommend_v1"
HISTORY_LENGTH = 50
GUARDED_SQLITE = "tesserec.features.sqlite.GuardedSqliteOnlineStore"


@dataclass(frozen=True)
class UserFeatures:
    """What is known of one user: the last events, oldest first, and all items ever seen."""

    user_id: str
    history: list[str] = field(default_factory=list)
    times: list[int] = field(default_factory=list)  # seconds, aligned with history
    seen: set[str] = field(default_factory=set)
    known: bool = False  # the store has a row of this user


class FeatureReader:
    """The feature service of one store folder, opened once a process.

    Not picklable and not for use across a fork: open it after.
    """

    def __init__(
        self, repo_folder: Path, service: str = SERVICE, *, patience_s: float | None = None
    ) -> None:
        """Open `<workdir>/feature_store`; importing Feast takes seconds.

        `patience_s`: a read fails after about so long instead of waiting for a locked file, or
        for a server that does not answer; None: as patient as a writer.

        Raises:
            UsageError: no store there, or Feast is not installed.
            ServingError: its registry has no such service.
        """
        self.folder = Path(repo_folder)
        self.service = service
        self._store = open_store(self.folder, patience_s=patience_s)
        self._feature_service = _service(self._store, service, self.folder)
        self.schema_hash = schema_hash(self._feature_service)
        state = read_state(self.folder)
        self.length: int = state.get("history_length", HISTORY_LENGTH)
        self.has_times: bool = state.get("has_times", True)

    def read(self, user_ids: Sequence[str]) -> list[UserFeatures]:
        """The features of each user, in order; an unknown user has empty ones.

        Raises:
            ServingError: the online store did not answer.
        """
        if not user_ids:
            return []
        try:
            row = self._store.get_online_features(
                features=self._feature_service,
                entity_rows={"user_id": list(user_ids)},
                full_feature_names=True,
            ).to_dict()
        except Exception as error:  # Feast and its stores raise whatever their clients do
            raise ServingError(f"the online store of {self.folder} failed: {error}") from error
        columns = [
            row[f"{view}__{name}"]
            for view, name in (
                ("user_history", "item_ids"),
                ("user_history", "timestamps"),
                ("user_history", "seen_items"),
                ("user_recent", "item_ids"),
                ("user_recent", "timestamps"),
            )
        ]
        return [
            self._features(user, *values) for user, *values in zip(user_ids, *columns, strict=True)
        ]

    def _features(
        self,
        user: str,
        items: list[str] | None,
        times: list[int] | None,
        seen: list[str] | None,
        recent_items: list[str] | None,
        recent_times: list[int] | None,
    ) -> UserFeatures:
        known = items is not None or recent_items is not None
        seen_items = {*(seen or []), *(items or []), *(recent_items or [])}
        join = merge if self.has_times else append
        history, when = join(
            items or [], times or [], recent_items or [], recent_times or [], length=self.length
        )
        return UserFeatures(user, history, when, seen_items, known)


def merge(
    items: Sequence[str],
    times: Sequence[int],
    new_items: Sequence[str],
    new_times: Sequence[int],
    *,
    length: int,
) -> tuple[list[str], list[int]]:
    """The last `length` events of two lists that are each ordered by time, oldest first.

    Of the new events those with an item and time of the first list are left out (repeats inside
    the first list stay: they are separate events). Events of one time keep the first list's
    before the new ones. If the first list is full, a new event not later than its oldest is
    dropped: it was cut off there, or would be cut off now.
    """
    known = set(zip(items, times, strict=True))
    floor = times[0] if len(times) >= length else None
    fresh = [
        (item, time)
        for item, time in dict.fromkeys(zip(new_items, new_times, strict=True))
        if (item, time) not in known and (floor is None or time > floor)
    ]
    events = sorted([*zip(items, times, strict=True), *fresh], key=lambda event: event[1])
    events = events[-length:]
    return [item for item, _ in events], [time for _, time in events]


def append(
    items: Sequence[str],
    times: Sequence[int],
    new_items: Sequence[str],
    new_times: Sequence[int],
    *,
    length: int,
) -> tuple[list[str], list[int]]:
    """As `merge`, for data without times, whose "times" are positions that no push can know.

    Pushed events follow the history; those that a run has read since are its last ones, so the
    longest start of the new events that ends the history is left out.
    """
    items, new_items = list(items), list(new_items)
    overlap = next(
        (n for n in range(min(len(items), len(new_items)), 0, -1) if items[-n:] == new_items[:n]), 0
    )
    joined = [*items, *new_items[overlap:]], [*times, *new_times[overlap:]]
    return joined[0][-length:], joined[1][-length:]


def open_store(folder: Path, *, patience_s: float | None = None) -> FeatureStore:
    """The Feast store of a folder with `feature_store.yaml`; `patience_s`: see FeatureReader.

    Raises:
        UsageError: no such file, or Feast is not installed.
    """
    text = folder / CONFIG
    if not text.is_file():
        raise UsageError(f"{folder} holds no feature store; run the pipeline first")
    try:
        from feast import FeatureStore
    except ImportError:
        raise need("feast", "serve") from None
    return FeatureStore(config=load_config(folder, patience_s=patience_s))


def load_config(folder: Path, *, patience_s: float | None = None, **registry: Any) -> Any:
    """Feast's RepoConfig of a store folder, with changed registry settings if given.

    A serving environment has no DuckDB and needs none: there the offline store is left out.
    """
    text = os.path.expandvars((folder / CONFIG).read_text())
    unset = re.findall(r"\$\{(\w+)\}", text)
    if unset:
        raise UsageError(f"{folder / CONFIG} needs the environment variable {unset[0]}")
    from feast import RepoConfig

    tree = yaml.safe_load(text)
    tree["registry"] = {**tree["registry"], **registry}
    if importlib.util.find_spec("duckdb") is None:
        tree.pop("offline_store", None)
    if patience_s is not None:
        tree["online_store"] = _impatient(tree["online_store"], patience_s)
    config = RepoConfig(**tree)
    config.repo_path = folder
    return config


def _impatient(online: dict[str, Any], patience_s: float) -> dict[str, Any]:
    """The settings of an online store that is given up after so long."""
    if online["type"] == "redis":
        # Left to itself the client tries three times, and sleeps for seconds in between.
        limits = f"socket_timeout={patience_s},socket_connect_timeout={patience_s},retry=null"
        return {**online, "connection_string": f"{online['connection_string']},{limits}"}
    if online["type"] == GUARDED_SQLITE:
        return {**online, "busy_ms": round(1000 * patience_s)}
    return online


def schema_hash(service: FeatureService) -> str:
    """16 hex digits over the service's name, views, features and types."""
    views = []
    for projection in service.feature_view_projections:
        fields = [[f.name, f.dtype.to_value_type().name] for f in projection.features]
        views.append([projection.name, sorted(fields)])
    text = json.dumps([service.name, sorted(views)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _service(store: FeatureStore, name: str, folder: Path) -> Any:
    from feast.errors import FeatureServiceNotFoundException

    try:
        return store.get_feature_service(name)
    except (FeatureServiceNotFoundException, FileNotFoundError) as error:
        raise ServingError(f"the registry of {folder} has no service {name}: {error}") from None
