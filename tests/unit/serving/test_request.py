"""What a request may hold: everything else is an error for it alone."""

from __future__ import annotations

import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesserec.config.serving import LimitSettings
from tesserec.errors import RequestError, UsageError
from tesserec.serving.request import Request, Response, Rules, make_request, parse_rules
from tesserec.serving.wire import INPUTS, OUTPUTS, request_of, tensors_of


def tensors(
    user_id: bytes = b"U1",
    history: tuple[bytes, ...] = (),
    k: object = 10,
    rules: bytes = b"",
) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {"k": np.array([[k]])}
    for name, values in (("user_id", (user_id,)), ("history", history), ("rules", (rules,))):
        found[name] = np.empty((1, len(values)), np.object_)
        found[name][0, :] = values
    return found


def test_an_empty_request_has_the_defaults() -> None:
    assert request_of(tensors(b"", (b"", b""))) == Request()
    assert parse_rules("  ") == parse_rules("{}") == Rules()
    assert parse_rules('{"allow": null, "explain": null, "seed": null}') == Rules()


def test_all_rules() -> None:
    rules = {
        "exclude_seen": False,
        "allow": ["a", "brand:x"],
        "deny": ["b"],
        "quota_new": 2,
        "diversity": 3,
        "explain": True,
        "seed": 7,
    }
    assert parse_rules(json.dumps(rules)) == Rules(
        exclude_seen=False,
        allow=("a", "brand:x"),
        deny=("b",),
        quota_new=2,
        diversity=3,
        explain=True,
        seed=7,
    )
    days = parse_rules('{"quota_new": {"items": 2, "days": 7}}')
    assert days == Rules(quota_new=2, quota_days=7)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "not JSON"),
        ("[]", "a list"),
        ('"x"', "a str"),
        ('{"excludeseen": true}', "unknown rule 'excludeseen'"),
        ('{"exclude_seen": 1}', "exclude_seen is 1"),
        ('{"deny": "I1"}', "deny is not a list"),
        ('{"allow": [1]}', "allow is not a list"),
        ('{"quota_new": -1}', "quota_new is -1"),
        ('{"quota_new": 1.5}', "quota_new is 1.5"),
        ('{"quota_new": {"items": 2}}', "2 items of 0 days"),
        ('{"quota_new": {"items": 2, "days": 36501}}', "of 36501 days"),
        ('{"quota_new": {"items": 2, "days": 0.5}}', "days is 0.5"),
        ('{"quota_new": {"items": 2, "hours": 1}}', "'hours'; there are items, days"),
        ('{"allow": []}', "allow is empty"),
        ('{"diversity": true}', "diversity is True"),
        ('{"seed": NaN}', "NaN"),
        ('{"quota_new": Infinity}', "Infinity"),
        ('{"quota_new": 1e999}', "quota_new is inf"),
        ('{"seed": ' + "9" * 5000 + "}", "not JSON"),
        ('{"deny": ["\\ud800"]}', "surrogate"),
        ('{"\\ud800": 1}', "surrogate"),
        ("[" * 100_000, "not JSON"),
        (json.dumps({"deny": ["x"] * 10_001}), "10001 entries"),
    ],
)
def test_bad_rules_are_named(text: str, part: str) -> None:
    with pytest.raises(RequestError, match=part):
        parse_rules(text)


@pytest.mark.parametrize(
    ("bad", "part"),
    [
        (tensors(k=0), "k is 0"),
        (tensors(k=1001), "k is 1001"),
        (tensors(k=-(2**31)), "k is -2147483648"),
        (tensors(k=float("nan")), "malformed"),
        (tensors(b"\xff\xfe"), "user_id is not UTF-8"),
        (tensors(history=(b"ok", b"\xc3")), "history is not UTF-8"),
        (tensors(rules=b"\xff"), "rules is not UTF-8"),
        (tensors(history=(b"x",) * 1001), "1001 items"),
        (tensors(k=3, rules=b'{"quota_new": 4}'), "more than k"),
        ({}, "missing"),
        ({name: np.empty((0, 1)) for name in INPUTS}, "batch of 0"),
        ({name: np.empty((2, 1)) for name in INPUTS}, "batch of 2"),
        (tensors() | {"k": np.empty((1, 0), np.int32)}, "malformed"),
    ],
)
def test_bad_tensors_become_that_requests_error(bad: dict[str, np.ndarray], part: str) -> None:
    found = request_of(bad)
    assert isinstance(found, RequestError)
    assert part in str(found)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
rule_names = st.sampled_from([*Rules.__dataclass_fields__, "other"])


@given(st.dictionaries(rule_names, json_values))
def test_any_json_is_taken_or_refused(tree: dict[str, object]) -> None:
    with suppress(RequestError):
        parse_rules(json.dumps(tree))


@given(
    st.binary(), st.lists(st.binary(), max_size=4), st.integers(-(2**31), 2**31 - 1), st.binary()
)
def test_any_bytes_are_taken_or_refused(
    user: bytes, history: list[bytes], k: int, rules: bytes
) -> None:
    assert isinstance(request_of(tensors(user, tuple(history), k, rules)), Request | RequestError)


def test_answers_have_a_batch_dimension_even_when_empty() -> None:
    full = Response(["a", "ü"], np.array([2, 1], np.float32), "r", "model", "", "{}")
    empty = Response([], np.array([], np.float32), "r", "model", "", "")
    out = tensors_of(full)
    assert tuple(out) == OUTPUTS
    assert out["item_id"].tolist() == [[b"a", "ü".encode()]]
    assert out["score"].dtype == np.float32
    assert tensors_of(empty)["item_id"].shape == tensors_of(empty)["score"].shape == (1, 0)


def test_limits_are_settings() -> None:
    limits = LimitSettings(k=50, history=2, rule_entries=1)
    fine = tensors(history=(b"a", b"b"), k=50, rules=b'{"deny": ["a"]}')
    assert isinstance(request_of(fine, limits), Request)
    for change, part in (
        (tensors(k=51), "use 1 to 50"),
        (tensors(history=(b"a",) * 3), "the last 2"),
        (tensors(rules=b'{"allow": ["a", "b"]}'), "at most 1"),
        (tensors(rules=b'{"deny": ["a", "b"]}'), "at most 1"),
    ):
        assert part in str(request_of(change, limits))
    with pytest.raises(UsageError, match=r"limits\.k is 49"):
        LimitSettings(k=49)


def test_a_very_long_history_is_refused_not_cut() -> None:
    assert len(make_request(history=["x"] * 1000).history) == 1000
    with pytest.raises(RequestError):
        make_request(history=["x"] * 1001)
