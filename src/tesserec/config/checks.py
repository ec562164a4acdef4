"""How a value of the configuration is refused: its key, itself, and what to write instead."""

from __future__ import annotations

from tesserec.errors import UsageError


def check(ok: bool, key: str, value: object, remedy: str) -> None:
    if not ok:
        raise UsageError(f"{key} is {value!r}; {remedy}")
