"""Means over seeds: which runs are refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tesserec import release
from tesserec.cli import evaluate
from tesserec.errors import UsageError


@pytest.mark.parametrize(
    ("of_other", "message"),
    [
        ({"promoted": None}, "no release is promoted in .*other"),
        ({"promoted": "r1"}, "other holds release r1 again; .* leave it out"),
        ({"split": {"protocol": "time"}}, "other splits its events otherwise than .*first"),
    ],
)
def test_a_run_that_differs_in_more_than_its_seed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_other: dict[str, Any], message: str
) -> None:
    usual: dict[str, Any] = {"promoted": "r1", "split": {"protocol": "leave_one_out"}}
    facts = {"first": usual, "other": usual | {"promoted": "r2"} | of_other}

    def source(folder: Path, manifest: Any, kind: str) -> Any:
        params = {"split": facts[folder.name]["split"]}
        return SimpleNamespace(manifest={"params": params}, file=lambda name: name)

    monkeypatch.setattr(release, "promoted", lambda folder: facts[folder.name]["promoted"])
    monkeypatch.setattr(release, "release_folder", lambda folder, _: folder)
    monkeypatch.setattr(release, "read_release", lambda _: {"model": "rpg"})
    monkeypatch.setattr(evaluate, "_source", source)
    monkeypatch.setattr("pyarrow.parquet.read_table", lambda _: None)
    with pytest.raises(UsageError, match=message):
        evaluate._over_seeds(tmp_path / "first", "r1", [tmp_path / "other"], usual)
