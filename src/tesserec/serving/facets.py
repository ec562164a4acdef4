"""Facets in rules: what `brand:X`, `category:X`, `price<=9.5` and `listed_after:DATE` mean.

Entries of one kind unite and the kinds intersect in `allow`; in `deny` each entry forbids by
itself (docs/rules.md).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tesserec.errors import RequestError

SHOWN = "brand:X, category:X, price<=9.5 (or <, >, >=), listed_after:DATE, listed_before:DATE"
EARLIEST_S = 10**8  # March 1973; a smaller number is a year or a day written as a number
LATEST_S = 10**11
FACET_BYTES = 300  # of one in a rule of many, measured

# What begins like a facet and isn't one is refused: ignored, it would let forbidden items out.
_LIKE = re.compile(r"\s*(brand|category|price|listed(_after|_before)?)\s*[:<>=]", re.IGNORECASE)
_PRICE = re.compile(r"price\s*(<=|>=|<|>)\s*(\S+)")
_LISTED = re.compile(r"listed_(?:after|before):\s*(\S.*)")


@dataclass(frozen=True)
class Facet:
    """One facet; facets of the same `kind` unite in `allow`."""

    kind: str  # brand | category | price< | price> | listed_after | listed_before
    value: Any  # a name, (number, whether it is itself meant), or unix seconds


@dataclass(frozen=True)
class FacetRule:
    """The facets of a request, in a form in which equal rules are equal."""

    allow: frozenset[Facet] | None  # None: everything that isn't denied
    deny: frozenset[Facet]

    @property
    def bytes(self) -> int:
        """What it takes in memory, about."""
        return FACET_BYTES * (len(self.allow or ()) + len(self.deny))


def facet_rule(
    allow: Iterable[str] | None, deny: Iterable[str], items: Mapping[str, int]
) -> FacetRule | None:
    """The facets among entries of rules; None if there are none. An item's id is no facet.

    Raises:
        RequestError: an entry that begins like a facet and isn't one.
    """
    wanted, refused = _facets(allow or (), items), _facets(deny, items)
    return FacetRule(wanted or None, refused) if wanted or refused else None


def _facets(entries: Iterable[str], items: Mapping[str, int]) -> frozenset[Facet]:
    return frozenset(
        parse_facet(entry) for entry in entries if _LIKE.match(entry) and entry not in items
    )


def parse_facet(entry: str) -> Facet:
    """The facet that an entry names.

    Raises:
        RequestError: it names none, or its number or date is none.
    """
    name, colon, value = entry.partition(":")
    if colon and name in ("brand", "category") and value:
        return Facet(name, value)
    if price := _PRICE.fullmatch(entry.strip()):
        sign, number = price[1], _number(price[2])
        if number is not None:
            return Facet("price" + sign[0], (number, sign.endswith("=")))
    if listed := _LISTED.fullmatch(entry.strip()):
        seconds = _seconds(listed[1].strip())
        if seconds is not None:
            return Facet(entry.strip().partition(":")[0], seconds)
        raise RequestError(
            f"'{entry}' holds no date; write 2026-01-31, 2026-01-31T12:00:00Z or unix seconds"
        )
    raise RequestError(f"'{entry}' is no facet; there are {SHOWN}")


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _seconds(text: str) -> int | None:
    """Unix seconds of digits or an ISO date; a time without a zone is UTC."""
    if text.isdecimal():
        return int(text) if len(text) < 12 and EARLIEST_S <= int(text) <= LATEST_S else None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    try:
        zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return math.ceil(zoned.timestamp())
    except OverflowError:
        return None
