"""The page of freshness: every section in every run, words where there is nothing to draw."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tesserec.report import plots
from tesserec.report.freshness import span
from tesserec.retokenization import drill
from tesserec.retokenization.history import remember
from tesserec.steps import freshness
from tests.fakes.freshness import RUN, fresh_run, steps_of
from tests.fakes.stock import stock_release
from tests.unit.report.test_report import Page

SECTIONS = (
    "summary", "lag", "gates", "churn", "codes", "collisions", "drift", "quarantine", "exposure",
    "releases", "drill", "steps",
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drill, "_answer", lambda *_: None)
        path = fresh_run(tmp_path_factory.mktemp("fresh"))
    yield path, path.read_text()


def test_every_section_is_drawn(whole: tuple[Path, str]) -> None:
    page = Page(whole[1])
    assert [s["id"] for s in page.all("section")] == list(SECTIONS)
    assert "could not be shown" not in whole[1] and "encode done" in whole[1]
    sources = [a.get("src") or "" for a in page.all("img")]
    # lag, two of the codes, drift, quarantine, releases; nothing moved, so no churn by digit
    assert len(sources) == 6 and all(s.startswith("data:image/svg+xml;base64,") for s in sources)
    assert "No digit changed" in whole[1] and "listed to reachable, p95" in whole[1]
    assert not page.all("script") and all(len(a.get("alt") or "") > 20 for a in page.all("img"))
    assert all(a.get("scope") in ("col", "row") for a in page.all("th"))


def test_the_facts_lie_beside_it(whole: tuple[Path, str]) -> None:
    facts = json.loads((whole[0].parent / "freshness.json").read_text())
    assert facts["run"]["ok"] and facts["lag"]["items"] == 41
    assert facts["rollback_drill"]["ok"] is True
    prom = whole[0].parents[2] / "retokenization" / "freshness.prom"
    assert "tesserec_retokenization_run_ok" in prom.read_text()


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "uri", lambda figure: "data:image/svg+xml;base64,")


def test_a_first_run_says_in_words_what_it_does_not_have(tmp_path: Path) -> None:
    stock_release(tmp_path, tmp_path / "data")
    text = freshness.run(tmp_path, "first").read_text()
    page = Page(text)
    assert [s["id"] for s in page.all("section")] == list(SECTIONS)
    for words in (
        "No new item was promoted in the last day", "The run came to no gate",
        "it is the first release", "no item came since", "drift was not tested: 0 new items",
        "Nothing is in quarantine", "no answer of the last day", "no earlier promotion",
        "No step ended", "There is no release before to compare with",
    ):  # fmt: skip
        assert words in text, words
    assert "could not be shown" not in text


def test_nothing_was_ever_promoted(tmp_path: Path) -> None:
    text = freshness.run(tmp_path, "nothing").read_text()
    assert [s["id"] for s in Page(text).all("section")] == list(SECTIONS)
    assert "no release is promoted" in text and "There is no release." in text


def test_a_gate_that_said_no_stands_first_with_what_to_do(tmp_path: Path) -> None:
    stock_release(tmp_path, tmp_path / "data")
    no = {"step": "survey", "event": "end", "artifact": None, "reused": False, "seconds": 0.5}
    no |= {"error": "the canary set is <b>encoded otherwise</b>", "error_type": "GateFailed"}
    steps_of(tmp_path, [no])
    remember(tmp_path, {"cadence": "maintain", "release_id": "r1", "ok": False, "fired": ["<i>"]})
    text = freshness.run(tmp_path, RUN).read_text()
    assert "a gate said no at survey" in text and "&lt;b&gt;encoded" in text
    assert "What to do:" in text and "restore it" in text
    assert "canary: said no" in text and "refused</span></td><td>&lt;i&gt;</td>" in text
    Page(text)


def test_churn_is_drawn_with_its_budget(
    tmp_path: Path, no_pictures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tesserec.release import promote
    from tests.unit.retokenization.test_hand_over import delta_of

    monkeypatch.setattr(drill, "_answer", lambda *_: None)
    stock_release(tmp_path, tmp_path / "data")
    promote(tmp_path, delta_of(tmp_path).name)
    path = freshness.run(tmp_path, RUN)
    churn = json.loads((path.parent / "freshness.json").read_text())["churn"]
    assert churn["moved"] == 2 and churn["items"] == pytest.approx(2 / 60)
    assert sum(churn["by_digit"]) / 4 == pytest.approx(churn["digits"])
    assert "2 of 60 items that both have changed" in path.read_text()
    assert "Bar chart: share of items whose code changed" in path.read_text()


def test_a_part_that_cannot_be_drawn_says_so(
    tmp_path: Path, no_pictures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tesserec.report import fresh_plots

    def broken(*_: Any) -> str:
        raise ValueError("no ink")

    monkeypatch.setattr(fresh_plots, "before_after", broken)
    stock_release(tmp_path, tmp_path / "data")
    text = freshness.run(tmp_path, RUN).read_text()
    assert text.count("could not be shown: ValueError: no ink") == 1
    Page(text)


def test_spans_are_for_people() -> None:
    assert [span(s) for s in (None, 4.0, 90, 7200, 300_000)] == [
        "–", "4 s", "1.5 min", "2 h", "3.47 d",
    ]  # fmt: skip
