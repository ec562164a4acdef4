"""The features of a batch's users: one read, within a budget, and what to do without an answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

from tesserec.config import LookupSettings
from tesserec.serving.features import Reader, UserRow
from tesserec.serving.meter import Meter

log = logging.getLogger(__name__)
QUIET_S = 60.0  # a store that does not answer is logged once in so long, not once a batch


@dataclass(frozen=True)
class Found:
    """What is known of one user.

    `outcome`: `read` (a row of the store), `unknown` (the store has none), `late` or `failed` (the
    store didn't answer), `stale` (it didn't, but an earlier row was remembered).
    """

    row: UserRow | None
    outcome: str


class Lookup:
    """Reads users' rows for the handler."""

    def __init__(self, settings: LookupSettings, meter: Meter) -> None:
        self._settings = settings
        self._meter = meter
        self._complain_at = 0.0

    def find(self, reader: Reader, user_ids: Iterable[str]) -> dict[str, Found]:
        """What is known of each user; one read of the store, never an exception."""
        users = sorted(set(user_ids))
        if not users:
            return {}
        try:
            rows = dict(zip(users, reader.read(users), strict=True))
        except Exception:  # whatever the store's driver raises: answer without it
            if time.monotonic() >= self._complain_at:
                self._complain_at = time.monotonic() + QUIET_S
                log.exception("the feature store did not answer for %d users", len(users))
            found = {user: Found(None, "failed") for user in users}
        else:
            found = {u: Found(r, "read" if r.known else "unknown") for u, r in rows.items()}
        for one in found.values():
            self._meter.add("tesserec_features_total", outcome=one.outcome)
        return found
