"""The report in a real browser, at the width of a desk and of a phone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tesserec.report import run_report
from tesserec.steps import freshness
from tests.fakes.finished_run import RUN, finished_run
from tests.fakes.freshness import fresh_run
from tests.fakes.stock import stock_release

OVERFLOW = """(() => {
  const wide = [...document.querySelectorAll('body *')].filter(e => {
    const box = e.getBoundingClientRect();
    if (e.closest('.scroll, pre, .hidden, .skip') || !box.width) return false;
    return box.right > innerWidth + 0.5 || box.left < -0.5;
  });
  return wide.map(e => e.tagName + '.' + e.className).slice(0, 5);
})()"""
SMALL = """[...document.querySelectorAll('main *')].filter(e =>
  e.childNodes.length && e.textContent.trim() && parseFloat(getComputedStyle(e).fontSize) < 11
).map(e => e.tagName).slice(0, 5)"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    whole, failed = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("failed")
    finished_run(whole)
    finished_run(failed, until="gate_raw", error="the gate says no: " + "x" * 300)
    fresh, first = tmp_path_factory.mktemp("fresh"), tmp_path_factory.mktemp("first")
    stock_release(first, first / "data")
    return {
        "whole": run_report(whole, RUN),
        "failed": run_report(failed, RUN),
        "fresh": fresh_run(fresh),
        "first": freshness.run(first, "first"),
    }


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["whole", "failed", "fresh", "first"])
def test_it_fits_and_the_console_is_silent(
    browser: Any, pages: dict[str, Path], tmp_path: Path, name: str, width: int, dark: bool
) -> None:
    browser.open(pages[name].as_uri(), width, dark=dark)
    # What a reader can open must fit too.
    browser.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.complaints() == []
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert browser.evaluate("innerWidth") == width
    assert browser.evaluate(OVERFLOW) == []
    assert browser.evaluate(SMALL) == []
    browser.screenshot(tmp_path / f"{name}-{width}.png")


def test_every_picture_is_drawn(browser: Any, pages: dict[str, Path]) -> None:
    browser.open(pages["whole"].as_uri(), 1280)
    widths = browser.evaluate("[...document.images].map(i => i.complete ? i.naturalWidth : 0)")
    assert len(widths) == 6 and min(widths) > 100


def test_wide_tables_scroll_in_their_box_by_keyboard_too(
    browser: Any, pages: dict[str, Path]
) -> None:
    browser.open(pages["whole"].as_uri(), 390)
    boxes = browser.evaluate(
        "[...document.querySelectorAll('.scroll')].filter(b => b.scrollWidth > b.clientWidth)"
        ".map(b => [b.tabIndex, b.getAttribute('aria-label')])"
    )
    assert boxes and all(index == 0 and label for index, label in boxes)


def test_data_docs_open_from_the_report(browser: Any, pages: dict[str, Path]) -> None:
    browser.open(pages["whole"].as_uri(), 1280)
    href = browser.evaluate("document.querySelector('#gates a').href")
    browser.open(href, 1280)
    assert browser.evaluate("document.title") == "docs"


def test_real_data_docs_are_whole_without_a_network(browser: Any, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("great_expectations")
    from tesserec.validation import run_gate

    row = {"users": 9, "model": 0.5, "popularity": 0.1, "difference": 0.4, "low": -1, "high": 0.5}
    run_gate("gate_metrics", {"against_popularity": pandas.DataFrame([row])}, tmp_path)
    pages = sorted((tmp_path / "data_docs").rglob("*.html"))
    assert len(pages) == 3
    for page in pages:
        for width in (1280, 390):
            browser.open(page.as_uri(), width, dark=True)
            assert browser.complaints() == [], page
            assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), page
