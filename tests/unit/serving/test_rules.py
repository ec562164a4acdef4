"""Random rules through every decoder: nothing forbidden comes out, and the order is brute force's.

The meaning of rules is told a second time in tests/fakes/rules.py, item by item.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tesserec.decoders.exhaustive import Exhaustive
from tesserec.models.fusion import Blend, Fusion
from tesserec.models.rpg import RPG
from tesserec.models.rpg import Shape as RPGShape
from tesserec.models.sasrec import SASRec
from tesserec.models.sasrec import Shape as SASRecShape
from tesserec.recommender import Recommender
from tesserec.serving.answering import answer
from tesserec.serving.catalogue import Catalogue
from tesserec.serving.loaded import Loaded
from tesserec.serving.lookup import Found
from tesserec.serving.reasons import codes_of
from tesserec.serving.request import Request, Response, make_request
from tests.fakes.release import FakeReader, FakeRow
from tests.fakes.rules import ByHand, Wish

NOW_S = 1_790_000_000
DAY_S = 86_400
BEAUTY = Path(__file__).resolve().parents[4] / "shared" / "data" / "beauty2014"
ARMS = ("exhaustive", "scan", "graph", "sasrec", "fusion")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The state of one user is little work; threads would mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random_items(items: int, rng: np.random.Generator, names: pa.Table | None = None) -> pa.Table:
    """Items with every kind of fact, and with gaps; `names` gives item_id, brand and categories."""
    table = names
    if table is None:
        paths = [
            [[], None, [f"A > B{n % 7}"], [f"A > B{n % 5} > C", f"D{n % 3}"]][n % 4]
            for n in rng.integers(0, 1000, items).tolist()
        ]
        table = pa.table(
            {
                "item_id": [f"I{row}" for row in range(items)],
                "brand": pa.array([f"B{n}" if n else None for n in rng.integers(0, 9, items)]),
                "categories": pa.array(paths, pa.list_(pa.string())),
            }
        )

    def some(values: np.ndarray, share: float) -> pa.Array:
        return pa.array(values.tolist(), mask=rng.random(items) > share)

    columns = {
        "price": some(rng.choice([1, 2.5, 5, 9.95, 10, 15, 20, 80], items), 0.8),
        "listed_at": some(NOW_S - rng.integers(0, 600 * DAY_S, items), 0.9),
        "available": some(rng.random(items) > 0.05, 0.5),
        "trained": pa.array(rng.random(items) < 0.95),  # SASRec ties the others: below ties.TIES
        "title": table["item_id"],
        "count_30d": pa.array(rng.integers(0, 3, items)),
    }
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table


def recommender(arm: str, codes: np.ndarray, items: pa.Table) -> Recommender:
    """Untrained weights; each user's state is computed alone, so that equals stay equal."""
    digits = codes.shape[1]
    shape = RPGShape(digits=digits, codebook_size=256, dim=16, layers=1, heads=2, ffn=16)
    model: Any = RPG(shape, codes, seed=1)
    if arm in ("sasrec", "fusion"):
        trained = np.array(items["trained"].to_pylist())
        identity = SASRec(SASRecShape(items=len(codes), dim=16, layers=1, ffn=16), trained, seed=2)
        torch.nn.init.normal_(identity.vectors, generator=torch.Generator().manual_seed(3))
        blend = Blend(temperatures=(2.0, 1.0), bounds=(4,), weights=(0.3, 0.6))
        model = identity if arm == "sasrec" else Fusion(model, identity, codes, blend)
    decoder = {"name": arm if arm in ("scan", "graph") else "exhaustive"}
    if arm == "graph":  # so wide that it visits everything
        decoder |= {"edges": 60, "beam": 4000, "steps": 6}
    ids = items["item_id"].to_pylist()
    own = None if arm == "sasrec" else codes
    made = Recommender.of_parts(model, own, ids, items, decoder=decoder)
    real, known = model.state, {}

    def alone(histories: Sequence[np.ndarray]) -> Any:
        for history in histories:
            if history.tobytes() not in known:
                known[history.tobytes()] = real([history])
        states = [known[history.tobytes()] for history in histories]
        if isinstance(states[0], torch.Tensor):
            return torch.cat(states)
        return tuple(torch.cat(parts) for parts in zip(*states, strict=True))

    model.state = alone
    return made


def scores_of_all(made: Recommender, histories: Sequence[list[str]]) -> np.ndarray:
    """float32 [B, N], by the exhaustive decoder without rules."""
    model = made._model
    exact = Exhaustive.of(model, made.codes)
    rows, scores = exact.rank(model.state([made.rows(h) for h in histories]), len(made.item_ids))
    out = np.empty_like(scores)
    np.put_along_axis(out, rows, scores, axis=1)
    return out


def serve(
    made: Recommender, by_hand: ByHand, wishes: Sequence[Wish], withdrawn: set[str]
) -> list[Response]:
    catalogue = Catalogue(made.items, made.row_of)
    loaded = Loaded("r1", made, FakeReader(), catalogue, frozenset(withdrawn))
    requests = [request_of(wish, f"U{n}") for n, wish in enumerate(wishes)]
    found = {f"U{n}": Found(FakeRow(f"U{n}", [], w.seen), "read") for n, w in enumerate(wishes)}
    answers = answer(loaded, requests, found, now_s=by_hand.now_s)
    assert all(isinstance(one, Response) for one in answers), answers
    return answers  # pyright: ignore[reportReturnType]


def request_of(wish: Wish, user: str) -> Request:
    return make_request(user, wish.history, wish.k, json.dumps(wish.rules))


def check(response: Response, wish: Wish, by_hand: ByHand, scores: np.ndarray) -> None:
    ids = response.item_ids
    assert set(ids) <= by_hand.allowed(wish), f"a forbidden item, of {wish.rules}"
    expected = by_hand.expected(wish, scores)
    assert ids == expected, wish
    np.testing.assert_array_equal(response.scores, scores[[by_hand.place[i] for i in ids]])
    codes = codes_of(response.reason)
    assert (len(ids) < wish.k) == bool({"rules_exhausted", "catalogue_exhausted"} & {*codes})
    new = by_hand.is_new(wish)
    if new is not None:
        quota = wish.rules["quota_new"]
        need = quota if isinstance(quota, int) else quota["items"]
        short = sum(new[by_hand.place[i]] for i in ids) < need
        assert short == ("no_new_items" in codes)


@pytest.mark.parametrize("arm", ARMS)
def test_random_rules_are_brute_force(arm: str) -> None:
    rng = np.random.default_rng(11)
    codes = rng.integers(0, 256, (400, 4)).astype(np.uint8)[rng.integers(0, 150, 400)]  # ties
    items = random_items(400, rng)
    withdrawn = {f"I{row}" for row in range(0, 400, 37)}
    by_hand = ByHand(items, withdrawn, NOW_S)
    made = recommender(arm, codes, items)
    wishes = [by_hand.wish(rng) for _ in range(150)]
    scores = scores_of_all(made, [wish.history for wish in wishes])
    together = serve(made, by_hand, wishes, withdrawn)
    for wish, response, own in zip(wishes, together, scores, strict=True):
        check(response, wish, by_hand, own)
    for wish, response in list(zip(wishes, together, strict=True))[::5]:
        (alone,) = serve(made, by_hand, [wish], withdrawn)
        assert (alone.item_ids, alone.reason) == (response.item_ids, response.reason)


@pytest.mark.slow
@pytest.mark.skipif(
    not BEAUTY.is_dir(), reason=f"the Beauty data are not there: no folder {BEAUTY}"
)
@pytest.mark.parametrize("arm", ARMS)
def test_a_thousand_random_rules_on_beauty(arm: str) -> None:
    """Its real items, brands, categories and codes; prices, dates and the rest are drawn."""
    rng = np.random.default_rng(12)
    codes = np.load(BEAUTY / "text_codes_opq.npy")
    names = pq.read_table(BEAUTY / "items.parquet", columns=["item_id", "brand", "categories"])
    items = random_items(len(codes), rng, names)
    withdrawn = set(items["item_id"].to_pylist()[::97])
    by_hand = ByHand(items, withdrawn, NOW_S)
    made = recommender(arm, codes, items)
    for _ in range(40):
        wishes = [by_hand.wish(rng) for _ in range(25)]
        scores = scores_of_all(made, [wish.history for wish in wishes])
        for wish, response, own in zip(
            wishes, serve(made, by_hand, wishes, withdrawn), scores, strict=True
        ):
            check(response, wish, by_hand, own)
    if arm == "graph":
        walks = made._decoder
        assert walks.walks > 300 and walks.visited == walks.walks * len(codes)
