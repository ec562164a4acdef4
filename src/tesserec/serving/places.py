"""Who answers: the serving release, and in the second place a candidate or the former one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tesserec.release.candidate import CANARY, SHADOW
from tesserec.serving.judge import Judge
from tesserec.serving.loaded import Loaded
from tesserec.serving.request import Request

SERVING, FORMER, LOADING = "serving", "former", "loading"
SPACE = float(1 << 64)


@dataclass(frozen=True)
class Places:
    """At most two releases; never changed, only replaced as a whole between two batches.

    `role` of the second: `canary` (answers a share of the users), `shadow` (answers unseen) or
    `former` (answers unseen, and is gone back to if the serving one leaves its bands).
    """

    serving: Loaded
    second: Loaded | None = None
    role: str = ""
    share: float = 0.0
    since: str = ""  # when the pointer named the candidate, or the serving one beside a former
    judge: Judge | None = None

    @property
    def candidate(self) -> Loaded | None:
        """The second place, if it is tried."""
        return self.second if self.role in (CANARY, SHADOW) else None

    def alone(self) -> Places:
        """The serving release and no other."""
        return Places(self.serving)

    def told(self) -> dict[str, Any]:
        """`serving` and `second`, as `status.json` has them."""
        second = self.second and {
            "release_id": self.second.release_id,
            "role": self.role,
            "share": self.share,
            "since": self.since,
            "figures": self.judge.figures() if self.judge else {},
        }
        return {"serving": self.serving.release_id, "second": second}

    def withdraw(self, items: frozenset[str]) -> Places:
        """The same releases without these items."""
        second = self.second and self.second.withdraw(items)
        return replace(self, serving=self.serving.withdraw(items), second=second)

    def split(self, requests: Sequence[Any]) -> list[tuple[Loaded, list[int]]]:
        """Which release answers which requests (their places); every one is in one group."""
        every = list(range(len(requests)))
        if self.second is None or self.role != CANARY:
            return [(self.serving, every)]
        theirs = {i for i in every if self.compares(requests[i])}
        groups = [
            (self.serving, [i for i in every if i not in theirs]),
            (self.second, sorted(theirs)),
        ]
        return [group for group in groups if group[1]]

    def compares(self, request: Any) -> bool:
        """Whether a request is of the share that the second release answers, seen or unseen.

        The same users for as long as the candidate is the same; a larger share has the smaller in
        it. Without a user the history counts; with neither it is never.
        """
        if self.second is None or not isinstance(request, Request):
            return False
        key = request.user_id or "\n".join(request.history)
        if not key:
            return False
        salted = f"{self.second.release_id} {key}".encode()
        digest = hashlib.blake2b(salted, digest_size=8).digest()
        return int.from_bytes(digest, "big") < self.share * SPACE
