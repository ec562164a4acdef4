"""Releases that a server doesn't serve, and why; the last few are remembered."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tesserec.release.pointer import now

REMEMBERED = 5
# A release that failed is tried again after so long, then after twice as long each time: loading
# one takes time and memory from the requests.
RETRY_S, LONGEST_S = 30.0, 600.0


@dataclass(frozen=True)
class Refusal:
    """One release, as the pointer named it at `stamp`; `final`: it was tried and withdrawn."""

    release_id: str
    stamp: str
    reason: str
    final: bool
    at: str
    clock: float  # monotonic
    times: int  # that it failed

    @property
    def retry_s(self) -> float:
        return min(RETRY_S * 2 ** (self.times - 1), LONGEST_S)


class Refusals:
    """What was refused; the same release named anew by the pointer is another case."""

    def __init__(self) -> None:
        self._known: list[Refusal] = []

    def add(self, release_id: str, stamp: str, reason: str, *, final: bool = False) -> None:
        same = [r for r in self._known if (r.release_id, r.stamp) == (release_id, stamp)]
        times = 1 + max((r.times for r in same), default=0)
        refusal = Refusal(release_id, stamp, reason, final, now(), time.monotonic(), times)
        others = [r for r in self._known if r not in same]
        self._known = [*others, refusal][-REMEMBERED:]

    def hold(self, release_id: str, stamp: str) -> bool:
        """Whether it is not to be tried (again) now."""
        return any(
            r.final or time.monotonic() - r.clock < r.retry_s
            for r in self._known
            if (r.release_id, r.stamp) == (release_id, stamp)
        )

    def knows(self, release_id: str, stamp: str) -> bool:
        return any((r.release_id, r.stamp) == (release_id, stamp) for r in self._known)

    def settle(self, release_id: str) -> None:
        """It is good after all."""
        self._known = [r for r in self._known if r.release_id != release_id]

    def rows(self) -> list[dict[str, str]]:
        return [{"release_id": r.release_id, "reason": r.reason, "at": r.at} for r in self._known]
