"""Random rules over a catalogue, and what they mean told item by item."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from tests.fakes.brute import chosen_by_hand, tie_key

DAY_S = 86_400


@dataclass(frozen=True)
class Wish:
    """One random request: what the caller sends, and what the user has seen."""

    history: list[str]
    seen: set[str]
    k: int
    rules: dict[str, Any]


class ByHand:
    """The meaning of rules (docs/rules.md) in sets of item ids, without arrays or bits."""

    def __init__(self, items: pa.Table, withdrawn: set[str], now_s: int) -> None:
        self.rows = {row["item_id"]: row for row in items.to_pylist()}
        self.ids = list(self.rows)
        self.place = {item: place for place, item in enumerate(self.ids)}
        self.now_s = now_s
        self.shown = {
            i for i, r in self.rows.items() if r["available"] is not False and i not in withdrawn
        }
        self.trained = [item for item, row in self.rows.items() if row["trained"]]
        self.brands: dict[str, set[str]] = defaultdict(set)
        self.levels: dict[str, set[str]] = defaultdict(set)
        leaves: dict[str, int] = {}
        self.group = np.full(len(self.ids), -1, np.int32)
        for place, (item, row) in enumerate(self.rows.items()):
            if row["brand"]:
                self.brands[row["brand"]].add(item)
            for path in row["categories"] or ():
                parts = path.split(" > ")
                for depth, part in enumerate(parts):
                    self.levels[part].add(item)
                    self.levels[" > ".join(parts[: depth + 1])].add(item)
            if row["categories"]:
                self.group[place] = leaves.setdefault(row["categories"][0], len(leaves))

    def wish(self, rng: np.random.Generator) -> Wish:
        """A request with a random choice of rules."""
        rules: dict[str, Any] = {}
        if rng.random() < 0.5:
            rules["allow"] = self._entries(rng)
        if rng.random() < 0.5:
            rules["deny"] = self._entries(rng)
        k = int(rng.choice([1, 3, 10, 40]))
        if rng.random() < 0.4:
            many = int(rng.integers(1, k + 1))
            days = int(rng.integers(1, 400))
            rules["quota_new"] = many if rng.random() < 0.5 else {"items": many, "days": days}
        if rng.random() < 0.4:
            rules["diversity"] = int(rng.integers(1, 4))
        if rng.random() < 0.4:
            rules["seed"] = int(rng.integers(0, 2**31))
        if rng.random() < 0.3:
            rules["exclude_seen"] = False
        history = [str(i) for i in rng.choice(self.ids, int(rng.integers(0, 20)))]
        history.append(str(rng.choice(self.trained)))  # else SASRec knows nothing of it
        seen = {str(i) for i in rng.choice(self.ids, int(rng.integers(0, 60)))}
        return Wish(history, seen, k, rules)

    def allowed(self, wish: Wish) -> set[str]:
        """The items that may come out."""
        left = set(self.shown)
        if wish.rules.get("exclude_seen", True):
            left -= wish.seen | set(wish.history)
        for entry in wish.rules.get("deny", ()):
            left -= self._matching(entry)
        if "allow" not in wish.rules:
            return left
        kinds: dict[str, set[str]] = defaultdict(set)
        listed: set[str] = set()
        for entry in wish.rules["allow"]:
            if entry in self.rows:
                listed.add(entry)
            elif kind := _kind(entry):
                kinds[kind] |= self._matching(entry)
        matched = set.intersection(*kinds.values()) if kinds else set()
        return left & (matched | listed)

    def is_new(self, wish: Wish) -> np.ndarray | None:
        """bool [N]: the items that the quota asks for; None: no quota."""
        quota = wish.rules.get("quota_new")
        if not quota:
            return None
        if isinstance(quota, int):
            return np.array([row["trained"] is False for row in self.rows.values()], bool)
        since = self.now_s // DAY_S * DAY_S - quota["days"] * DAY_S
        listed = [row["listed_at"] for row in self.rows.values()]
        return np.array([at is not None and at >= since for at in listed], bool)

    def expected(self, wish: Wish, scores: np.ndarray) -> list[str]:
        """The answer to a wish, of the scores [N] of all items."""
        rules = wish.rules
        places = [self.place[item] for item in self.allowed(wish)]
        seed = rules.get("seed")
        order = sorted(places, key=lambda place: (-scores[place], tie_key(seed, place)))
        quota = rules.get("quota_new", 0)
        need = quota if isinstance(quota, int) else quota["items"]
        cap = rules.get("diversity", 0)
        group = self.group if cap else None
        return [
            self.ids[place]
            for place in chosen_by_hand(order, wish.k, self.is_new(wish), need, group, cap)
        ]

    def _entries(self, rng: np.random.Generator) -> list[str]:
        """Entries of allow or deny, of one or several kinds."""
        kinds = rng.choice(len(_KINDS), int(rng.integers(1, 4)), replace=False)
        return [entry for kind in kinds for entry in self._some(_KINDS[kind], rng)]

    def _some(self, kind: str, rng: np.random.Generator) -> Sequence[str]:
        many = int(rng.integers(1, 4))
        if kind == "ids":
            return [str(i) for i in rng.choice(self.ids, 5 * many)]
        if kind in ("brand", "category"):
            names = list(self.brands if kind == "brand" else self.levels)
            return [f"{kind}:{name}" for name in rng.choice(names, many)]
        if kind == "price":
            sign = rng.choice(["<=", "<", ">", ">="])
            return [f"price{sign}{rng.choice([2.5, 9.95, 10, 20.0, 40]):g}"]
        moment = self.now_s - int(rng.integers(0, 500 * DAY_S))
        day = datetime.fromtimestamp(moment, UTC).date().isoformat()
        return [f"{kind}:{rng.choice([day, str(moment)])}"]

    def _matching(self, entry: str) -> set[str]:
        """The items that an entry names or matches."""
        if entry in self.rows:
            return {entry}
        name, _, value = entry.partition(":")
        if name == "brand":
            return self.brands[value]
        if name == "category":
            return self.levels[value]
        if name.startswith("price"):
            number = entry.lstrip("price<>=")
            sign = entry[5 : len(entry) - len(number)]
            return self._where("price", lambda price: _holds(price, sign, float(number)))
        at = int(value) if value.isdecimal() else int(_midnight(value))
        if name == "listed_after":
            return self._where("listed_at", lambda listed: listed >= at)
        return self._where("listed_at", lambda listed: listed < at)

    def _where(self, column: str, test: Any) -> set[str]:
        return {i for i, r in self.rows.items() if r[column] is not None and test(r[column])}


_KINDS = ("ids", "brand", "category", "price", "listed_after", "listed_before")


def _kind(entry: str) -> str:
    name = entry.partition(":")[0]
    return entry[:6] if name.startswith("price") else name


def _holds(price: float, sign: str, limit: float) -> bool:
    return {
        "<": price < limit,
        "<=": price <= limit,
        ">": price > limit,
        ">=": price >= limit,
    }[sign]


def _midnight(day: str) -> float:
    return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()
