"""`run_gate`: what it writes, and how it says no."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from tesserec.artifacts import build, hash_of_files, sha256_of
from tesserec.errors import GateFailed, UsageError
from tesserec.validation import raise_if_failed, read_verdict, run_gate


def _hash(folder: Path) -> str:
    files = {
        p.relative_to(folder).as_posix(): {"sha256": sha256_of(p)}
        for p in folder.rglob("*")
        if p.is_file()
    }
    return hash_of_files(files)


def test_verdict_and_data_docs_are_written(tables: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    chosen = {t: tables[t] for t in ("items", "sequences")}
    verdict = run_gate("gate_two", chosen, tmp_path)
    assert read_verdict(tmp_path) == verdict
    written = json.loads((tmp_path / "verdict.json").read_text())
    assert written["name"] == "gate_two" and written["passed"] is True
    assert written["rows"] == {"items": 40, "sequences": 40}
    assert written["checked"] == sum(t["checked"] for t in written["tables"].values())
    site = tmp_path / "data_docs"
    for table in chosen:
        assert (site / written["tables"][table]["page"]).is_file()
        assert f"expectations/{table}.html" in (site / "index.html").read_text()


def test_data_docs_are_small_and_need_no_network(
    tables: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    run_gate("gate_items", {"items": tables["items"]}, tmp_path)
    pages = list((tmp_path / "data_docs").rglob("*"))
    assert sum(p.stat().st_size for p in pages if p.is_file()) < 150_000
    for page in (p for p in pages if p.suffix == ".html"):
        text = page.read_text()
        assert "<script" not in text
        assert not re.search(r"(?:src=\"|url\(['\"]?|<link[^>]*href=\")https?:", text), page


def test_equal_data_give_equal_bytes(tables: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    items = tables["items"]
    items.loc[3, "item_id"] = "i4"
    for name in ("first", "second"):
        run_gate("gate_items", {"items": items}, tmp_path / name)
    assert _hash(tmp_path / "first") == _hash(tmp_path / "second")


def test_the_error_names_what_is_needed(tables: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    items = tables["items"]
    items.loc[:4, "item_id"] = [f"i{i + 10}" for i in range(5)]

    def make(folder: Path) -> None:
        run_gate("gate_items", {"items": items}, folder)

    artifact, _ = build(tmp_path, "gate_items", params={}, parents=(), version=1, make=make)
    with pytest.raises(GateFailed) as caught:
        raise_if_failed(artifact)
    message = str(caught.value)
    assert "expect_column_values_to_be_unique on items.item_id" in message
    assert "25.00% of 40 rows are bad" in message
    assert message.count('"item_id": "i1') == 3
    assert str(artifact.path / "data_docs" / "index.html") in message
    assert caught.value.exit_code == 3
    assert caught.value.artifact is artifact


def test_a_gate_that_checks_nothing_is_refused(
    tables: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="no table"):
        run_gate("gate_none", {}, tmp_path)
    with pytest.raises(UsageError, match="no suite 'itms'; known: interactions, items"):
        run_gate("gate_typo", {"itms": tables["items"]}, tmp_path)


def test_ids_are_not_read_as_html(tables: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    items = tables["items"]
    items.loc[:1, "item_id"] = "<script>alert(1)</script>"
    run_gate("gate_items", {"items": items}, tmp_path)
    for page in (tmp_path / "data_docs").rglob("*.html"):
        assert "<script" not in page.read_text()
