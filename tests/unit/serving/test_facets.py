"""What facets mean: their grammar, and which items they match."""

from __future__ import annotations

import json
import tracemalloc
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesserec.decoders.constraints import pack_bits, unpack_bits
from tesserec.errors import RequestError
from tesserec.serving import masks
from tesserec.serving.catalogue import Catalogue
from tesserec.serving.facets import Facet, FacetRule, facet_rule, parse_facet
from tesserec.serving.masks import Masks

JANUARY = int(datetime(2026, 1, 31, tzinfo=UTC).timestamp())
# brand, category paths, price, listed_at, available, trained
ITEMS = [
    ("Acme", ["Beauty > Nails > Polish"], 9.95, JANUARY - 1, None, True),
    ("Acme", ["Beauty > Nails", "Gifts"], 10.0, JANUARY, True, True),
    ("Bold", ["Beauty > Hair"], None, JANUARY + 86_400, False, True),
    (None, None, 0.1, None, True, False),
    ("Bold", [], 25.0, 0, True, None),
    ("", ["Nails"], 5.0, JANUARY + 5, True, False),
]


def catalogue(*, single: bool = False, pieces: bool = False) -> Catalogue:
    brand, paths, price, listed, available, trained = (
        list(column) for column in zip(*ITEMS, strict=True)
    )
    columns = {
        "item_id": pa.array([f"I{row}" for row in range(len(ITEMS))]),
        "brand": pa.array(brand, pa.string()),
        "categories": pa.array(paths, pa.list_(pa.string())),
        "price": pa.array(price, pa.float32() if single else pa.float64()),
        "listed_at": pa.array(listed, pa.int64()),
        "available": pa.array(available, pa.bool_()),
        "trained": pa.array(trained, pa.bool_()),
    }
    table = pa.table(columns)
    if pieces:
        table = pa.concat_tables([table.slice(0, 2), table.slice(2)])
    return Catalogue(table, {f"I{row}": row for row in range(len(ITEMS))})


def matching(known: Catalogue, allow: list[str] | None, deny: list[str] = []) -> list[int]:  # noqa: B006
    rule = facet_rule(allow, deny, known.row_of)
    assert rule is not None
    return np.flatnonzero(unpack_bits(known.mask(rule), 0, len(ITEMS))).tolist()


@pytest.mark.parametrize("known", [catalogue(), catalogue(single=True), catalogue(pieces=True)])
@pytest.mark.parametrize(
    ("allow", "rows"),
    [
        (["brand:Acme"], [0, 1]),
        (["brand:Acme", "brand:Bold"], [0, 1, 2, 4]),
        (["category:Beauty > Nails"], [0, 1]),
        (["category:Nails"], [0, 1, 5]),
        (["category:Gifts"], [1]),
        (["category:Beauty > Nails > Polish", "category:Hair"], [0, 2]),
        (["price<=9.95"], [0, 3, 5]),
        (["price<9.95"], [3, 5]),
        (["price>=10"], [1, 4]),
        (["price>10"], [4]),
        (["price <= 5", "price<=9.95"], [0, 3, 5]),  # of one kind: the wider one
        (["price>=25", "price>9.95"], [1, 4]),
        (["price>9.95", "price<=10"], [1]),  # of two kinds: between them
        (["price<=0.1"], [3]),
        (["price>0.1", "price<=5"], [5]),
        (["price>1000"], []),
        (["listed_after:2026-01-31"], [1, 2, 5]),
        (["listed_before:2026-01-31"], [0, 4]),
        ([f"listed_after:{JANUARY}", "listed_before:2026-02-01T00:00:00Z"], [1, 5]),
        (["brand:Acme", "price<=9.99", "listed_before:2026-02-01"], [0]),
        (["brand:Bold", "category:Gifts"], []),
    ],
)
def test_kinds_unite_and_intersect(known: Catalogue, allow: list[str], rows: list[int]) -> None:
    assert matching(known, allow) == rows


@pytest.mark.parametrize(
    ("deny", "rows"),
    [
        (["brand:Acme", "price>20"], [2, 3, 5]),  # each forbids by itself
        (["price<=10"], [2, 4]),  # no price: no reason to forbid
        (["listed_before:2026-01-31"], [1, 2, 3, 5]),
        (["category:Nails", "category:Hair"], [3, 4]),
    ],
)
def test_each_denied_facet_forbids(deny: list[str], rows: list[int]) -> None:
    assert matching(catalogue(), None, deny) == rows
    kept = [row for row in rows if row in (0, 1)]
    assert matching(catalogue(), ["brand:Acme"], deny) == kept


def test_columns_of_nothing_match_nothing() -> None:
    bare = Catalogue(pa.table({"item_id": ["I0", "I1"]}), {"I0": 0, "I1": 1})
    assert (
        matching_count(bare, FacetRule(frozenset([Facet("price<", (5.0, True))]), frozenset())) == 0
    )
    assert matching_count(bare, FacetRule(None, frozenset([Facet("listed_after", 5)]))) == 2
    assert bare.groups.tolist() == [-1, -1] and bare.available.all() and not bare.new.any()
    with pytest.raises(RequestError, match="no item has the facet 'category:X'"):
        bare.mask(FacetRule(frozenset([Facet("category", "X")]), frozenset()))


def matching_count(known: Catalogue, rule: FacetRule) -> int:
    return int(unpack_bits(known.mask(rule), 0, known.items.num_rows).sum())


def test_facts_of_items() -> None:
    known = catalogue(pieces=True)
    assert known.available.tolist() == [True, True, False, True, True, True]
    assert known.new.tolist() == [False, False, False, True, False, True]
    same = known.groups.tolist()
    assert same[3] == same[4] == -1 and len(set(same)) == 5
    assert known.rows(["I5", "no", "I1", "I5"]).tolist() == [1, 5]


def test_new_items_by_days() -> None:
    known = catalogue()

    def new(days: int, now_s: float) -> list[int]:
        return np.flatnonzero(unpack_bits(known.new_mask(days, now_s), 0, len(ITEMS))).tolist()

    assert new(0, 0) == [3, 5]
    evening = JANUARY + 2 * 86_400 + 80_000
    assert new(1, evening) == [2]
    assert new(2, evening) == [1, 2, 5]  # from that day's beginning on
    assert new(3, evening) == [0, 1, 2, 5]


@pytest.mark.parametrize(
    ("entry", "part"),
    [
        ("brand:", "is no facet"),
        ("Brand:Acme", "is no facet"),
        ("price=5", "is no facet"),
        ("price:5", "is no facet"),
        ("price<=", "is no facet"),
        ("price<=five", "is no facet"),
        ("price<=nan", "is no facet"),
        ("price<=1e999", "is no facet"),
        ("price<=1 2", "is no facet"),
        ("listed:2026-01-01", "is no facet"),
        ("listed_after:", "is no facet"),
        ("listed_after:yesterday", "holds no date"),
        ("listed_after:2026", "holds no date"),
        ("listed_before:20260131", "holds no date"),
        ("listed_after:" + "9" * 5000, "holds no date"),
        ("listed_after:2026-02-30", "holds no date"),
    ],
)
def test_what_looks_like_a_facet_and_is_none_is_refused(entry: str, part: str) -> None:
    with pytest.raises(RequestError, match=part):
        facet_rule(None, [entry], {})
    assert facet_rule(None, [entry], {entry: 3}) is None, "an item's id is no facet"


def test_equal_rules_are_equal() -> None:
    one = facet_rule(["price<=9.50", "brand:A"], ["listed_after:2026-01-31"], {})
    other = facet_rule(["brand:A", "price <= 9.5"], [f"listed_after:{JANUARY}", "I7"], {})
    assert one == other and hash(one) == hash(other)
    assert facet_rule(["I1"], ["I2"], {}) is None
    zoned = parse_facet("listed_after:2026-01-31T02:00:00+02:00")
    assert zoned == Facet("listed_after", JANUARY)


@given(st.text(alphabet="brandcategoypils_tef:<>=0123456789-. TZ", max_size=30))
def test_any_text_is_taken_or_refused(text: str) -> None:
    try:
        facet_rule([text], [text], {})
    except RequestError as error:
        assert json.dumps(str(error))


def test_masks_are_made_once_and_forgotten_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "ENTRY_BYTES", 0)
    monkeypatch.setattr(masks, "CACHE_BYTES", 25)  # two masks of 10 bytes
    made, outcomes, kept = [], [], Masks()

    def get(rule: str) -> np.ndarray:
        return kept.get(rule, lambda: made.append(rule) or pack_bits(np.ones(80)), outcomes.append)

    first = get("a")
    assert get("a") is first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0
    get("b"), get("a"), get("c")  # b was used longest ago
    get("a"), get("b")
    assert made == ["a", "b", "c", "b"]
    assert outcomes == ["miss", "hit", "miss", "hit", "miss", "hit", "miss"]


def test_rules_of_many_facets_are_not_kept_without_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The masks of a small catalogue are small; what they are kept under need not be."""
    monkeypatch.setattr(masks, "CACHE_BYTES", 2 * 2**20)
    known = catalogue()
    known.warm()
    tracemalloc.start()
    for number in range(30):
        rule = facet_rule([f"price<={number}.{cent:04}" for cent in range(2_000)], [], {})
        assert rule is not None
        known.mask(rule)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 4 * 2**20, held
