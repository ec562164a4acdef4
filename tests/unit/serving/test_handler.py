"""The handler: rules, fallbacks, and one bad request that harms nobody else."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest

from tesserec.errors import RequestError, ServingError
from tesserec.recommender import Recommender
from tesserec.release import promoted, release_folder
from tesserec.serving.handler import Handler
from tesserec.serving.manager import Manager
from tesserec.serving.meter import MemoryMeter
from tesserec.serving.reasons import REASONS, codes_of
from tesserec.serving.rehearsal import Ranking, difference, offline_rankings
from tesserec.serving.request import Request, Response, make_request
from tests.fakes.release import ITEMS, FakeReader, fake_row, item_id

ALL = {item_id(row) for row in range(ITEMS)}
UNAVAILABLE = item_id(11)


def one(handler: Handler, **request: object) -> Response:
    rules = request.pop("rules", None)
    text = json.dumps(rules) if rules is not None else ""
    answer = handler.recommend([make_request(**request, rules=text)])[0]  # pyright: ignore
    assert isinstance(answer, Response), answer
    return answer


def test_served_equals_offline_in_any_batch(handler: Handler, shop: Path) -> None:
    users = [f"U{n}" for n in range(230)]
    folder = release_folder(shop, promoted(shop) or "")
    offline = offline_rankings(Recommender.load(folder), FakeReader(), users, 50)
    together = handler.recommend([make_request(user, k=50) for user in users])
    for user, answer, expected in zip(users, together, offline, strict=True):
        alone = one(handler, user_id=user, k=50)
        for found in (answer, alone):
            assert isinstance(found, Response)
            ranking = Ranking(found.item_ids, found.scores.tolist())
            assert difference(ranking, expected) is None, user


def test_mixed_requests_get_their_own_answers(handler: Handler) -> None:
    """Requests of all kinds in one batch are answered as each of them alone."""
    texts = ["", '{"exclude_seen": false}', '{"quota_new": 3}', '{"diversity": 1}']
    texts += ['{"allow": ["brand:B1"]}', '{"deny": ["category:C2"]}']
    texts += ['{"allow": ["I001", "I002"]}']
    requests: list[Request | RequestError] = [
        make_request(user, history, k, text)
        for text in texts
        for user, history in (("U5", ()), ("U500", ()), ("", ("I001", "I030")), ("U7", ("I002",)))
        for k in (3, 7, 60)
    ]
    together = handler.recommend([*requests, RequestError("bad")])
    assert isinstance(together[-1], RequestError)
    for request, answer in zip(requests, together, strict=False):
        alone = handler.recommend([request])[0]
        assert isinstance(answer, Response) and isinstance(alone, Response)
        assert (answer.source, answer.reason) == (alone.source, alone.reason)
        assert (
            difference(
                Ranking(answer.item_ids, answer.scores.tolist()),
                Ranking(alone.item_ids, alone.scores.tolist()),
            )
            is None
        ), request


def test_seen_items_stay_away_unless_wanted(handler: Handler) -> None:
    seen = fake_row("U8").seen
    assert len(seen) == 8
    assert not seen & set(one(handler, user_id="U8", k=60).item_ids)
    shown = one(handler, user_id="U8", k=60, rules={"exclude_seen": False})
    assert set(shown.item_ids) == ALL - {UNAVAILABLE}
    own = one(handler, user_id="U8", history=["I001"], k=60)  # stored and sent: both were seen
    assert not (seen | {"I001"}) & set(own.item_ids)


def test_history_of_the_request_comes_first(handler: Handler) -> None:
    sent = one(handler, user_id="U8", history=["I001", "I002"], rules={"explain": True})
    assert json.loads(sent.explain)["history"] == ["I001", "I002"]
    assert "the request's history was used" in sent.reason
    stored = one(handler, user_id="U8", rules={"explain": True})
    assert json.loads(stored.explain)["history"] == fake_row("U8").history
    assert stored.reason == ""
    assert stored.item_ids != sent.item_ids


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"user_id": "U500"}, "unknown user"),
        ({"user_id": "U9"}, "no known item"),  # known, without events
        ({}, "no known item"),
        ({"history": ["no", "such"]}, "no known item"),
    ],
)
def test_without_history_the_popular_items_come(
    handler: Handler, request_: dict[str, object], reason: str
) -> None:
    answer = one(handler, **request_, k=3)
    assert answer.source == "popular"
    assert reason in answer.reason
    assert answer.item_ids == ["I000", "I001", "I002"]


def test_unknown_items_of_a_history_are_ignored(handler: Handler) -> None:
    with_ = one(handler, history=["x", "I001", "y"], rules={"explain": True})
    without = one(handler, history=["I001"])
    assert with_.item_ids == without.item_ids
    assert json.loads(with_.explain)["ignored"] == ["x", "y"]


def test_allow_and_deny(handler: Handler) -> None:
    some = one(handler, history=["I001"], k=10, rules={"allow": ["I002", "I003", "I001", "no"]})
    assert set(some.item_ids) == {"I002", "I003"}  # I001 was seen
    assert "2 of 10 items" in some.reason
    none = one(handler, history=["I001"], k=10, rules={"allow": ["I001"]})
    assert none.item_ids == [] and none.scores.shape == (0,)
    brand = one(handler, history=["I000"], k=60, rules={"allow": ["brand:B1", "I002"]})
    assert set(brand.item_ids) == {item_id(r) for r in range(1, ITEMS, 5) if r != 11} | {"I002"}
    rules = {"allow": ["brand:B1"], "deny": ["category:Shop > C1", "I016"]}
    both = one(handler, history=["I000"], k=60, rules=rules)
    left = {item_id(r) for r in range(1, ITEMS, 5) if r % 6 != 1} - {UNAVAILABLE, "I016"}
    assert set(both.item_ids) == left
    for entry, part in (("brand:none", "brand:none"), ("I999", "none of which release")):
        answer = handler.recommend([make_request("U1", rules=json.dumps({"allow": [entry]}))])[0]
        assert isinstance(answer, RequestError) and part in str(answer)


def test_quota_and_diversity(handler: Handler) -> None:
    new = {item_id(row) for row in range(50, ITEMS)}
    for quota in (4, {"items": 4, "days": 36_500}):  # all items are listed in 1970
        assert one(handler, user_id="U5", k=6, rules={"quota_new": quota}).reason == ""
    lately = one(handler, user_id="U5", k=6, rules={"quota_new": {"items": 4, "days": 30}})
    assert lately.item_ids == one(handler, user_id="U5", k=6).item_ids
    assert codes_of(lately.reason) == ["no_new_items"] and "0 of 4" in lately.reason
    answer = one(handler, user_id="U5", k=6, rules={"quota_new": 4})
    assert len(set(answer.item_ids) & new) >= 4 and len(answer.item_ids) == 6
    short = one(handler, history=["I000"], k=20, rules={"quota_new": 3, "allow": ["I001", "I055"]})
    assert "1 of 3 new items" in short.reason
    spread = one(handler, user_id="U5", k=60, rules={"diversity": 1})
    groups = [int(item[1:]) % 6 for item in spread.item_ids if item != "I007"]
    assert sorted(groups) == list(range(6))


def test_the_page_on_rules_has_every_reason() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "rules.md").read_text()
    table = page.partition("## Reasons")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(REASONS)
    assert not any("; " in words for words in REASONS.values()), "it stands between two reasons"


@pytest.mark.parametrize(
    ("request_", "codes"),
    [
        ({"user_id": "U5", "k": 3}, []),
        ({"user_id": "U5", "k": 60}, ["catalogue_exhausted"]),
        ({"user_id": "U5", "k": 60, "rules": {"deny": ["I002"]}}, ["catalogue_exhausted"]),
        ({"user_id": "U5", "k": 20, "rules": {"allow": ["brand:B1"]}}, ["rules_exhausted"]),
        ({"user_id": "U5", "k": 3, "rules": {"allow": ["price>1e9"]}}, ["rules_exhausted"]),
        ({"user_id": "U5", "k": 20, "rules": {"diversity": 1}}, ["rules_exhausted"]),
        (
            {"history": ["I001"], "rules": {"allow": ["I002"], "quota_new": 1}},
            ["rules_exhausted", "no_new_items", "history_used"],
        ),
        ({"user_id": "U500"}, ["unknown_user", "no_history"]),
        ({"history": ["no"], "rules": {"seed": 1}}, ["history_used", "no_history"]),
    ],
)
def test_reasons_begin_with_codes(
    handler: Handler, request_: dict[str, object], codes: list[str]
) -> None:
    answer = one(handler, **request_)
    assert codes_of(answer.reason) == codes
    assert set(codes) <= set(REASONS)


def test_a_seed_changes_nothing_where_nothing_is_equal(handler: Handler) -> None:
    """All items differ in popularity here."""
    plain, drawn = (one(handler, k=20, rules=rules) for rules in ({}, {"seed": 3}))
    assert plain.item_ids == drawn.item_ids


def test_what_rules_do_is_counted(shop: Path) -> None:
    meter = MemoryMeter()
    handler = Handler(shop, manager=Manager(shop, reader=lambda _: FakeReader()), meter=meter)
    texts = [
        '{"allow": ["brand:B1"]}',
        '{"allow": ["brand:B1"], "seed": 1}',
        "",
        '{"allow": ["I1"]}',
    ]
    answers = handler.recommend(
        [make_request(f"U{n}", (), 5, text) for n, text in enumerate(texts)]
    )
    hits, misses = (meter.values["tesserec_cache_total", "rules", o] for o in ("hit", "miss"))
    assert (hits, misses) == (1, 1)
    assert meter.values["tesserec_allowed_share",] == 3, "the fourth is refused"
    items = [item for one in answers[:3] for item in one.item_ids]  # pyright: ignore
    new = sum(int(item[1:]) >= 50 for item in items)
    assert meter.values["tesserec_items_total", "new"] == new
    assert meter.values["tesserec_items_total", "known"] == len(items) - new
    stages = {key[1] for key in meter.values if key[0] == "tesserec_stage_seconds"}
    assert stages == {"features", "model", "decode", "total"}


def test_masks_outlive_withdrawals_and_items_dont(shop: Path) -> None:
    manager = Manager(shop, reader=lambda _: FakeReader())
    handler = Handler(shop, manager=manager)
    rules = {"allow": ["brand:B1"]}
    first = one(handler, user_id="U5", rules=rules).item_ids[0]
    kept = manager.current.catalogue.masks
    manager.places = manager.places.withdraw(frozenset([first]))
    assert first not in one(handler, user_id="U5", rules=rules).item_ids
    assert manager.current.catalogue.masks is kept
    manager.places = manager.places.withdraw(frozenset())
    assert one(handler, user_id="U5", rules=rules).item_ids[0] == first


def test_explain_names_the_items_that_share_most_digits(handler: Handler) -> None:
    """By hand: all pairs of the answer and the history, digit by digit."""
    history = [item_id(row) for row in (1, 2, 30, 41, 2, 17, 55, 8)]
    answer = one(handler, history=history, k=30, rules={"explain": True})
    codes = handler.manager.current.recommender.codes.tolist()
    found = 0
    for item in json.loads(answer.explain)["items"]:
        own = codes[int(item["item_id"][1:])]
        expected = []
        for other in dict.fromkeys(history[::-1]):  # of equals the latest
            digits = [d for d in range(4) if codes[int(other[1:])][d] == own[d]]
            title = f"Title {int(other[1:])} – ü"
            one_ = {"item_id": other, "title": title, "shared": len(digits), "digits": digits}
            expected += [one_] if digits else []
        expected.sort(key=lambda one: -one["shared"])
        assert item["because"] == expected[:3]
        found += len(expected)
    assert found > 20
    popular = one(handler, k=2, rules={"explain": True})
    assert [item["because"] for item in json.loads(popular.explain)["items"]] == [[], []]


def test_explain_shows_titles_and_codes(handler: Handler) -> None:
    answer = one(handler, user_id="U5", k=2, rules={"explain": True})
    explain = json.loads(answer.explain)
    assert [item["item_id"] for item in explain["items"]] == answer.item_ids
    row = int(answer.item_ids[0][1:])
    assert explain["items"][0]["title"] == f"Title {row} – ü"
    codes = handler.manager.current.recommender.codes
    assert explain["items"][0]["sid"] == codes[row].tolist()
    assert one(handler, user_id="U5").explain == ""


def test_a_silent_feature_store_degrades(shop: Path) -> None:
    reader = FakeReader(broken=True)
    handler = Handler(shop, manager=Manager(shop, reader=lambda _: reader))
    stored = one(handler, user_id="U5")
    assert stored.source == "popular" and "feature store did not answer" in stored.reason
    sent = one(handler, user_id="U5", history=["I001"])
    assert sent.source == "model" and "feature store did not answer" in sent.reason


def test_the_model_is_asked_once_whatever_the_rules(
    handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    recommender = handler.manager.current.recommender
    asked: list[int] = []
    real = recommender.state

    def counted(histories: list[list[str]], **options: object) -> object:
        asked.append(len(histories))
        return real(histories, **options)

    monkeypatch.setattr(recommender, "state", counted)
    texts = ["", '{"allow": ["brand:B1"]}', '{"deny": ["category:C2"]}', '{"diversity": 1}']
    handler.recommend([make_request(f"U{n + 1}", rules=text) for n, text in enumerate(texts)])
    assert asked == [len(texts)]


def test_one_read_of_features_a_batch(shop: Path) -> None:
    reader = FakeReader()
    handler = Handler(shop, manager=Manager(shop, reader=lambda _: reader))
    reader.reads = 0  # loading a release reads once
    handler.recommend([make_request(f"U{n % 5}") for n in range(20)])
    assert reader.reads == 1
    handler.recommend([make_request(history=["I001"])])
    assert reader.reads == 1


def test_a_failure_of_the_model_degrades_one_request(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = MemoryMeter()
    handler = Handler(shop, manager=Manager(shop, reader=lambda _: FakeReader()), meter=meter)
    recommender = handler.manager.current.recommender
    real = recommender.state

    def poisoned(histories: list[list[str]], **options: object) -> object:
        if ["I013"] in histories:
            raise RuntimeError("poison")
        return real(histories, **options)

    monkeypatch.setattr(recommender, "state", poisoned)
    good, bad, other = handler.recommend(
        [make_request("U5"), make_request(history=["I013"], k=5), make_request("U6")]
    )
    assert isinstance(good, Response) and isinstance(other, Response)
    assert isinstance(bad, Response) and bad.model_failed and not good.model_failed
    assert bad.source == "popular_in_category" and "model_failed" in bad.reason
    assert meter.values["tesserec_model_failures_total",] == 1
    assert not meter.values["tesserec_rejects_total", "internal"]

    def silent(*_: object) -> object:
        raise RuntimeError("poison")

    monkeypatch.setattr(recommender, "popular", silent)
    (bad,) = handler.recommend([make_request(history=["I013"])])
    assert isinstance(bad, ServingError), "nothing is left to answer with"


def test_tensors_in_and_out(handler: Handler) -> None:
    good = {
        "user_id": np.array([[b"U5"]], object),
        "history": np.empty((1, 0), object),
        "k": np.array([[3]], np.int32),
        "rules": np.array([[b""]], object),
    }
    half = rb'{"explain": true, "deny": ["\ud800"]}'  # of a surrogate pair: no UTF-8 has it
    long = b'{"%s": 1}' % (b"x" * 10_000)
    bad = [good | {"rules": np.array([[text]], object)} for text in (b"\xff", half, long)]
    answers = handler.recommend_tensors([good, *bad, good])
    for answer in answers[1:-1]:
        assert isinstance(answer, RequestError)
        assert len(str(answer).encode()) < 1000, "gRPC refuses long trailers"
    for answer in (answers[0], answers[-1]):
        assert isinstance(answer, dict)
        assert answer["item_id"].shape == answer["score"].shape == (1, 3)


def test_a_silent_feature_store_does_not_fill_the_log(
    shop: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reader = FakeReader()
    handler = Handler(shop, manager=Manager(shop, reader=lambda _: reader))
    reader.broken = True
    with caplog.at_level(logging.ERROR):
        for _ in range(20):
            one(handler, user_id="U5")
    assert len(caplog.records) == 1
