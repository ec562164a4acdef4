"""Releases that a server doesn't serve, and why; the last few are remembered."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tesserec.release.pointer import now

REMEMBERED = 5


@dataclass(frozen=True)
class Refusal:
    """One release, as the pointer named it at `stamp`; `final`: it was tried and withdrawn."""

    release_id: str
    stamp: str
    reason: str
    final: bool
    at: str
    clock: float  # monotonic


class Refusals:
    """What was refused; the same release named anew by the pointer is another case."""

    def __init__(self) -> None:
        self._known: list[Refusal] = []

    def add(self, release_id: str, stamp: str, reason: str, *, final: bool = False) -> None:
        self._known = [r for r in self._known if (r.release_id, r.stamp) != (release_id, stamp)]
        refusal = Refusal(release_id, stamp, reason, final, now(), time.monotonic())
        self._known = [*self._known, refusal][-REMEMBERED:]

    def hold(self, release_id: str, stamp: str, retry_s: float) -> bool:
        """Whether it is not to be tried (again) now."""
        return any(
            r.final or time.monotonic() - r.clock < retry_s
            for r in self._known
            if (r.release_id, r.stamp) == (release_id, stamp)
        )

    def settle(self, release_id: str) -> None:
        """It is good after all."""
        self._known = [r for r in self._known if r.release_id != release_id]

    def rows(self) -> list[dict[str, str]]:
        return [{"release_id": r.release_id, "reason": r.reason, "at": r.at} for r in self._known]
