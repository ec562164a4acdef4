"""The report of whole, failed and broken runs."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tesserec.report import plots, release_report, run_report
from tesserec.report.facts import STEPS
from tesserec.report.render import number
from tests.fakes.finished_run import LONG, RUN, finished_run

SECTIONS = (
    "summary", "intake", "gates", "features", "codes", "training", "metrics", "rehearsal",
    "examples", "steps", "config",
)  # fmt: skip


class Page(HTMLParser):
    """Collects tags with their attributes; complains about tags that do not nest."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    workdir = tmp_path_factory.mktemp("whole")
    finished_run(workdir)
    path = run_report(workdir, RUN)
    return path, path.read_text()


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes nearly all of the time."""
    monkeypatch.setattr(plots, "uri", lambda figure: "data:image/svg+xml;base64,")


def test_every_section_is_there_and_nothing_is_missing(whole: tuple[Path, str]) -> None:
    page = Page(whole[1])
    assert [s["id"] for s in page.all("section")] == list(SECTIONS)
    assert "not reached" not in whole[1] and "could not be shown" not in whole[1]
    assert "promoted</span>" in whole[1] and "r176876f3942" in whole[1]


def test_it_needs_nothing_from_outside(whole: tuple[Path, str]) -> None:
    path, text = whole
    page = Page(text)
    assert not page.all("script") and "@import" not in text
    sources = [a.get("src") or "" for a in page.all("img")]
    assert len(sources) == 6 and all(s.startswith("data:image/svg+xml;base64,") for s in sources)
    links = [a["href"] or "" for a in page.all("a")]
    outside = [h for h in links if not h.startswith("#")]
    assert len(outside) == 4
    for href in outside:  # the Data Docs, by a relative path that exists
        assert (path.parent / href).is_file()


def test_pictures_and_tables_speak_to_screen_readers(whole: tuple[Path, str]) -> None:
    page = Page(whole[1])
    assert all(len(a.get("alt") or "") > 20 for a in page.all("img"))
    assert all(a.get("scope") in ("col", "row") for a in page.all("th"))
    assert len(page.all("h1")) == 1
    assert page.all("html")[0]["lang"] == "en"


def test_what_data_hold_is_escaped(whole: tuple[Path, str]) -> None:
    assert "<b>" not in whole[1] and "&lt;b&gt;" in whole[1]
    assert "user &lt;3&gt;" in whole[1] and "Item 2 &amp; co" in whole[1]
    assert LONG not in whole[1]  # cut


def test_numbers_of_the_run_are_shown(whole: tuple[Path, str]) -> None:
    text = whole[1]
    assert "time lies in the future" in text and "45" in text
    assert "session" in text  # an unused column
    assert "2024-01-01 14:53:45" in text  # first_time as a date
    assert "before: r0123456789a" in text  # the former release in the metric table
    assert "+2.0% (95 %: -0.5% to +4.0%)" in text
    assert text.count('class="hit"') == 10
    assert "already done" in text and "digits: 32" in text  # a reused step; the configuration


def test_the_same_run_gives_the_same_bytes(whole: tuple[Path, str]) -> None:
    path, text = whole
    run_report(path.parents[2], RUN)
    assert path.read_text() == text


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("step", [s for s in STEPS if s != "promote"])
def test_a_run_that_failed_early_has_its_report(tmp_path: Path, step: str) -> None:
    finished_run(tmp_path, until=step, error="the disk <is> full")
    text = run_report(tmp_path, RUN).read_text()
    page = Page(text)
    assert [s["id"] for s in page.all("section")] == list(SECTIONS)
    assert f"failed at {step}" in text and "the disk &lt;is&gt; full" in text
    assert "not reached" in text and "could not be shown" not in text


def test_a_run_without_any_trace_has_a_report(tmp_path: Path) -> None:
    text = run_report(tmp_path, "nothing").read_text()
    assert "no step wrote into steps.jsonl" in text
    assert "run.json is missing" in text


@pytest.mark.usefixtures("no_pictures")
def test_torn_files_are_said_not_raised(tmp_path: Path) -> None:
    folder = finished_run(tmp_path)
    lines = (folder / "steps.jsonl").read_text().splitlines()
    (folder / "steps.jsonl").write_text("\n".join(lines[:-1]) + '\n{"step": "prom')
    (model,) = (tmp_path / "artifacts").glob("train-*")
    (model / "history.jsonl").write_text('{"epoch": 1, "lo')
    (codes,) = (tmp_path / "artifacts").glob("tokenize-*")
    (codes / "codes.safetensors").write_bytes(b"torn")
    text = run_report(tmp_path, RUN).read_text()
    assert text.count("could not be shown") == 2
    assert "a line that is not whole" in text
    assert "promote was started" not in text and "unfinished" in text


@pytest.mark.usefixtures("no_pictures")
def test_a_moved_workdir_still_shows_its_artefacts(tmp_path: Path) -> None:
    finished_run(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    text = run_report(tmp_path / "new", RUN).read_text()
    assert "not reached" not in text and "left nothing to show" not in text


@pytest.mark.usefixtures("no_pictures")
def test_release_report_ends_with_the_evaluation(tmp_path: Path) -> None:
    finished_run(tmp_path)
    kinds = ("ingest", "features", "tokenize", "train", "evaluate")
    folders = {k: next((tmp_path / "artifacts").glob(f"{k}-*")) for k in kinds}
    out = tmp_path / "release" / "report.html"
    release_report(tmp_path, "r176876f3942", folders, out)
    page = Page(out.read_text())
    ids = [s["id"] for s in page.all("section")]
    assert "metrics" in ids and "examples" in ids
    assert not {"rehearsal", "steps", "config", "gates"} & set(ids)
    assert all((a["href"] or "").startswith("#") for a in page.all("a"))


def test_every_link_inside_the_page_has_its_target(whole: tuple[Path, str]) -> None:
    page = Page(whole[1])
    ids = {a["id"] for _, a in page.tags if "id" in a}
    assert {(a["href"] or "")[1:] for a in page.all("a") if (a["href"] or "#")[0] == "#"} <= ids
    assert len(re.findall(r'id="([^"]+)"', whole[1])) == len(ids)


def test_numbers_are_for_people() -> None:
    assert number(1234567) == "1\u202f234\u202f567"
    assert number(0.123456) == "0.1235" and number(None) == "–" and number(True) == "yes"
    assert number(12_345_678.9) == "12\u202f345\u202f679"
    assert json.dumps(number("text")) == '"text"'


def test_a_fusions_parts_have_a_curve_each_and_a_skipped_step_says_why(
    tmp_path: Path, no_pictures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, tokenize = tmp_path / "model", tmp_path / "codes"
    train.mkdir()
    tokenize.mkdir()
    lines = [
        {"part": part, "epoch": e, "loss": 9.0 - e, "val_ndcg@10": 0.01 * e}
        for part in ("rpg", "sasrec")
        for e in (1, 2)
    ]
    blend = {"temperatures": [4.0, 1.0], "bounds": [], "weights": [0.35]}
    fit = {"blend": blend, "users": 7, "ndcg": 0.0525, "curve": [0.1, 0.2]}
    text = [json.dumps(line) for line in [*lines, {"part": "fusion", "fit": fit}]]
    (train / "history.jsonl").write_text("\n".join(text) + "\n")
    (tokenize / "skipped.json").write_text('{"reason": "model sasrec has no codes"}')
    drawn: list[list[str]] = []
    monkeypatch.setattr(plots, "curves", lambda history, keys, label: drawn.append(keys) or "")
    release_report(tmp_path, "r1", {"train": train, "tokenize": tokenize}, tmp_path / "out.html")
    assert drawn == [
        ["RPG loss", "SASRec loss"],
        ["RPG val_ndcg@10", "SASRec val_ndcg@10"],
    ]
    page = (tmp_path / "out.html").read_text()
    assert "0.35" in page and "4.0, 1.0" in page and "0.0525" in page
    assert "skipped: model sasrec has no codes" in page
