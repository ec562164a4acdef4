"""Degraded answers: which source answers, and rules that hold in all of them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tesserec.release import promote
from tesserec.serving.handler import Handler
from tesserec.serving.manager import Manager
from tesserec.serving.request import Response, make_request
from tests.fakes.release import ITEMS, TRAINED, FakeReader, fake_row, item_id, tiny_release

UNAVAILABLE = item_id(11)


def one(handler: Handler, user: str = "", history: tuple[str, ...] = (), **asked: Any) -> Response:
    k, rules = asked.pop("k", 5), json.dumps(asked)
    (answer,) = handler.recommend([make_request(user, history, k, rules)])
    assert isinstance(answer, Response), answer
    return answer


def category(item: str) -> int:
    return int(item[1:]) % 6


@pytest.fixture
def identity(tmp_path: Path) -> Handler:
    """A model that knows nothing of the items from `TRAINED` on."""
    promote(tmp_path, tiny_release(tmp_path, model="sasrec"))
    return Handler(tmp_path, manager=Manager(tmp_path, reader=lambda _: FakeReader()))


@pytest.fixture
def broken(shop: Path, monkeypatch: pytest.MonkeyPatch) -> Handler:
    """A model whose numbers are not finite."""
    handler = Handler(shop, manager=Manager(shop, reader=lambda _: FakeReader()))
    model = handler.manager.current.recommender._model
    real = model.state
    monkeypatch.setattr(model, "state", lambda histories: real(histories) * float("nan"))
    return handler


def test_items_that_the_model_does_not_know_tell_their_category(identity: Handler) -> None:
    new = (item_id(TRAINED), item_id(TRAINED + 2))
    answer = one(identity, history=new)
    assert answer.source == "popular_in_category" and "history_unusable" in answer.reason
    assert {category(i) for i in answer.item_ids} == {category(new[-1])}
    assert answer.scores.tolist() == sorted(answer.scores.tolist(), reverse=True)
    assert not answer.model_failed
    assert one(identity, history=(*new, item_id(3))).source == "model"


def test_a_category_with_too_few_items_widens(identity: Handler) -> None:
    """Each of the six categories has ten items; all are under `Shop`."""
    wide = one(identity, history=(item_id(TRAINED),), k=20)
    assert wide.source == "popular_in_category" and len({*map(category, wide.item_ids)}) == 6
    assert item_id(7) not in wide.item_ids, "it has no category"
    everything = one(identity, history=(item_id(TRAINED),), k=ITEMS)
    assert everything.source == "popular" and item_id(7) in everything.item_ids
    spread = one(identity, history=(item_id(TRAINED),), k=3, diversity=1)
    assert len({*map(category, spread.item_ids)}) == 3


def test_a_quota_widens_a_category_without_new_items(identity: Handler) -> None:
    """Of ten items in each category the last one or two are new, and the history's one is seen."""
    history = (item_id(TRAINED + 3),)
    plain = one(identity, history=history, k=4)
    assert {category(i) for i in plain.item_ids} == {category(history[0])}
    wide = one(identity, history=history, k=4, quota_new=3)
    assert sum(int(i[1:]) >= TRAINED for i in wide.item_ids) == 3, wide
    assert wide.source == "popular_in_category" and "no_new_items" not in wide.reason
    narrow = one(identity, history=history, k=4, quota_new=3, deny=["category:Shop"])
    assert narrow.source == "popular" and "no_new_items" in narrow.reason


def test_a_model_that_fails_is_answered_for(broken: Handler) -> None:
    answer = one(broken, history=("I013",))
    assert answer.source == "popular_in_category" and answer.model_failed
    assert {category(i) for i in answer.item_ids} == {category("I013")}
    assert "model_failed" in answer.reason
    assert one(broken, history=("I007",)).source == "popular", "an item without a category"
    assert not one(broken).model_failed, "no model was asked"


@pytest.mark.parametrize("rules", [{"deny": ["brand:B1", "I002"]}, {"allow": ["brand:B2", "I003"]}])
def test_rules_hold_in_every_degraded_mode(
    shop: Path, broken: Handler, rules: dict[str, Any]
) -> None:
    reader = FakeReader()
    stale = Handler(shop, manager=Manager(shop, reader=lambda _: reader))
    one(stale, "U8")
    deadline = time.monotonic() + 5
    while not len(stale._lookup._stale) and time.monotonic() < deadline:
        time.sleep(0.005)
    reader.broken = True
    answers = {
        "model_stale": one(stale, "U8", k=60, **rules),
        "popular": one(stale, "U9999", k=60, **rules),
        "popular_in_category": one(broken, "U8", k=1, **rules),
    }
    for source, answer in answers.items():
        assert answer.source == source, answer.reason
        for item in answer.item_ids:
            assert item != UNAVAILABLE
            brand = f"B{int(item[1:]) % 5}"
            if "deny" in rules:
                assert brand != "B1" and item != "I002"
            else:
                assert brand == "B2" or item == "I003"
    seen = fake_row("U8").seen
    assert len(seen) == 8
    for source in ("model_stale", "popular_in_category"):
        assert not seen & set(answers[source].item_ids), source
    assert "ago was used" in answers["model_stale"].reason
