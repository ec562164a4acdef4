"""The request contract (docs/serving.md): what a request may ask, and its answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from tesserec.config.serving import LimitSettings
from tesserec.errors import RequestError

LIMITS = LimitSettings()
MAX_DAYS = 36_500
RULES = ("exclude_seen", "allow", "deny", "quota_new", "diversity", "explain", "seed")


@dataclass(frozen=True)
class Rules:
    """The business rules of one request; the defaults are those of an empty `rules`."""

    exclude_seen: bool = True
    allow: tuple[str, ...] | None = None  # only these item ids, or what facets match
    deny: tuple[str, ...] = ()
    quota_new: int = 0  # at least so many new items
    quota_days: int = 0  # new: listed so many days ago or later; 0: the model wasn't trained on it
    diversity: int = 0  # at most so many items of one leaf category; 0: no limit
    explain: bool = False
    seed: int | None = None  # for the order of equal scores; None: by row


@dataclass(frozen=True)
class Request:
    """One user's wish. `history`: item ids, oldest first; it is used instead of the stored one."""

    user_id: str = ""
    history: tuple[str, ...] = ()
    k: int = 10
    rules: Rules = field(default_factory=Rules)


@dataclass(frozen=True)
class Response:
    """The answer to one request; `source` is `model` or the degraded mode that answered."""

    item_ids: list[str]
    scores: np.ndarray  # float32 [len(item_ids)], falling unless a quota moved items
    release_id: str
    source: str
    reason: str
    explain: str  # JSON, or empty
    model_failed: bool = False  # popular items, as the model could not answer a good request


def chars_of(request: Request) -> int:
    """Characters of what a request names."""
    rules = request.rules
    return sum(map(len, (*request.history, *(rules.allow or ()), *rules.deny)))


def make_request(
    user_id: str = "",
    history: Sequence[str] = (),
    k: int = 10,
    rules: str = "",
    limits: LimitSettings = LIMITS,
) -> Request:
    """Check and build a request.

    Raises:
        RequestError: k out of range, history too long, or rules that aren't in the contract.
    """
    if not 1 <= k <= limits.k:
        raise RequestError(f"k is {k}; use 1 to {limits.k}")
    if len(history) > limits.history:
        raise RequestError(f"the history has {len(history)} items; send the last {limits.history}")
    parsed = parse_rules(rules, limits)
    if parsed.quota_new > k:
        raise RequestError(f"rule quota_new is {parsed.quota_new}, more than k ({k})")
    return Request(user_id, tuple(item for item in history if item), k, parsed)


def parse_rules(text: str, limits: LimitSettings = LIMITS) -> Rules:
    """Rules of a JSON object; an empty text means no rules.

    Raises:
        RequestError: not a JSON object, an unknown rule, or a value of the wrong type.
    """
    if not text.strip():
        return Rules()
    try:
        tree = json.loads(text, parse_constant=_no_constant)
        if "\\u" in text:  # an escape may be half a character, which no answer could repeat
            json.dumps(tree, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise RequestError("rules hold half of a surrogate pair, which is no text") from None
    except (ValueError, RecursionError) as error:
        raise RequestError(f"rules are not JSON: {error}") from None
    if not isinstance(tree, dict):
        raise RequestError(f"rules are a {type(tree).__name__}; send a JSON object")
    for name in tree:
        if name not in RULES:
            raise RequestError(f"unknown rule '{name}'; there are {', '.join(RULES)}")
    quota_new, quota_days = _quota(tree.get("quota_new"))
    return Rules(
        exclude_seen=_flag(tree, "exclude_seen", True),
        allow=_allowed(tree, limits.rule_entries),
        deny=_ids(tree, "deny", limits.rule_entries) or (),
        quota_new=quota_new,
        quota_days=quota_days,
        diversity=_count(tree, "diversity"),
        explain=_flag(tree, "explain", False),
        seed=_count(tree, "seed") if tree.get("seed") is not None else None,
    )


def _no_constant(name: str) -> NoReturn:
    raise RequestError(f"rules hold {name}, which is not JSON")


def _flag(tree: dict[str, Any], name: str, default: bool) -> bool:
    value = tree.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise RequestError(f"rule {name} is {value!r}; use true or false")
    return value


def _quota(value: Any) -> tuple[int, int]:
    """(items, days) of a number, or of an object with both."""
    if not isinstance(value, dict):
        return _count({"quota_new": value}, "quota_new"), 0
    for name in value:
        if name not in ("items", "days"):
            raise RequestError(f"rule quota_new has '{name}'; there are items, days")
    items, days = (_count({name: value.get(name)}, name) for name in ("items", "days"))
    if not items or not 1 <= days <= MAX_DAYS:
        raise RequestError(
            f"rule quota_new asks for {items} items of {days} days; "
            f"use items and days from 1, days up to {MAX_DAYS}"
        )
    return items, days


def _allowed(tree: dict[str, Any], most: int) -> tuple[str, ...] | None:
    entries = _ids(tree, "allow", most)
    if entries == ():
        raise RequestError("rule allow is empty: it would allow nothing; leave it out for all")
    return entries


def _count(tree: dict[str, Any], name: str) -> int:
    value = tree.get(name)
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
        raise RequestError(f"rule {name} is {value!r}; use a whole number from 0")
    return value


def _ids(tree: dict[str, Any], name: str, most: int) -> tuple[str, ...] | None:
    value = tree.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise RequestError(f"rule {name} is not a list of item ids")
    if len(value) > most:
        raise RequestError(f"rule {name} has {len(value)} entries; at most {most}")
    return tuple(value)
