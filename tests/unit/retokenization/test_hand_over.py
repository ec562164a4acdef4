"""A release is rehearsed beside its parent, promoted, and taken back if the server refuses it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tesserec.artifacts import Artifact
from tesserec.config import RunConfig, change_config
from tesserec.errors import GateFailed
from tesserec.release import promote, promoted, read_pointer, release_folder, verify
from tesserec.release.delta import Delta, build_delta
from tesserec.retokenization.history import read_history
from tesserec.retokenization.ledger import Entry, ledger_table
from tesserec.retokenization.rehearsal import rehearse_beside
from tesserec.retokenization.stock import open_stock
from tesserec.serving import arrival
from tesserec.serving import status as status_module
from tesserec.steps import extend, hand_over, survey
from tests.fakes.stock import row, source_rows, stock_release, write_source


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    stock_release(tmp_path, tmp_path / "data")
    return tmp_path


def extended(workdir: Path) -> tuple[RunConfig, Artifact]:
    """Two new items, encoded and not promoted."""
    write_source(workdir / "data", [*source_rows(), row(100), row(101)])
    config = change_config(open_stock(workdir).config, [])
    return config, extend.run(workdir, config, survey.run(workdir, config))


def says(monkeypatch: pytest.MonkeyPatch, status: dict[str, Any] | None) -> None:
    """What the running server tells of itself; None: there is none."""
    for module in (arrival, status_module):
        monkeypatch.setattr(module, "server_status", lambda _: status)


def test_handed_over(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, made = extended(workdir)
    release = made.read_json("change.json")["release_id"]
    says(monkeypatch, {"serving": release, "refused": []})
    told = hand_over.run(workdir, config, made).read_json("handover.json")
    assert told["promoted"] and told["served"] and told["reachable"] == told["new"] == 2
    assert promoted(workdir) == release


def test_refused_by_the_server(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, made = extended(workdir)
    told = made.read_json("change.json")
    row_of = {"release_id": told["release_id"], "reason": "it smells", "at": "9999"}
    says(monkeypatch, {"serving": told["parent"], "refused": [row_of]})
    with pytest.raises(GateFailed, match=rf"it smells; {told['parent']} is promoted again"):
        hand_over.run(workdir, config, made)
    assert promoted(workdir) == told["parent"]
    assert (read_pointer(workdir) or {})["withdrawn"]["release_id"] == told["release_id"]
    says(monkeypatch, {"serving": told["release_id"], "refused": []})
    assert hand_over.run(workdir, config, made).read_json("handover.json")["promoted"]
    lines = [(line["release_id"], line["ok"]) for line in read_history(workdir)]
    assert lines == [(told["release_id"], False), (told["release_id"], True)]
    assert "it smells" in read_history(workdir)[0]["fired"][0]


def test_killed_behind_the_promotion(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next run has nothing to do, and looks at what the server makes of the release."""
    config, made = extended(workdir)
    told = made.read_json("change.json")
    promote(workdir, told["release_id"])
    config, nothing = extended(workdir)
    assert nothing.read_json("change.json")["release_id"] is None
    says(monkeypatch, {"serving": told["release_id"], "refused": []})
    assert hand_over.run(workdir, config, nothing).read_json("handover.json")["served"]
    says(monkeypatch, None)
    assert not hand_over.run(workdir, config, nothing).read_json("handover.json")["served"]
    row_of = {"release_id": told["release_id"], "reason": "it smells", "at": "9999"}
    says(monkeypatch, {"serving": told["parent"], "refused": [row_of]})
    with pytest.raises(GateFailed, match=r"it smells; \w+ is promoted again"):
        hand_over.run(workdir, config, nothing)
    assert promoted(workdir) == told["parent"]


def test_rolled_back_and_handed_over_again(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tesserec.release import rollback

    config, made = extended(workdir)
    says(monkeypatch, None)
    hand_over.run(workdir, config, made)
    rollback(workdir)
    again = extended(workdir)[1]
    assert again.key == made.key
    hand_over.run(workdir, config, again)
    assert promoted(workdir) == made.read_json("change.json")["release_id"]


def test_nothing_to_do_needs_no_model(workdir: Path) -> None:
    """Nothing is loaded that takes seconds."""
    code = f"""
import sys
from pathlib import Path
from tesserec.config import change_config
from tesserec.retokenization.stock import open_stock
from tesserec.steps import extend, hand_over, survey
workdir = Path({str(workdir)!r})
config = change_config(open_stock(workdir).config, [])
made = extend.run(workdir, config, survey.run(workdir, config))
hand_over.run(workdir, config, made)
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# ---- the rehearsal ----


def delta_of(workdir: Path) -> Path:
    """A release with patched codes, in the ledger too."""
    stock = open_stock(workdir)
    rows = np.array([4, 9])
    codes = np.zeros((2, 4), np.uint8)
    entries = [
        Entry(
            item_id=stock.item_ids[r], row=r, event="moved", reason="a test",
            old=stock.codes[r], new=code,
        )
        for r, code in zip(rows.tolist(), codes, strict=True)
    ]  # fmt: skip
    ledger = ledger_table(entries, at=1, cadence="encode")
    delta = Delta(code_patch=(rows, codes), ledger=ledger, item_patch=patch_of(workdir, rows))
    return release_folder(workdir, build_delta(workdir, stock.release_id, delta, cadence="encode"))


def patch_of(workdir: Path, rows: np.ndarray) -> Any:
    import pyarrow as pa

    items = open_stock(workdir).items.take(pa.array(rows))
    return items.append_column("row", pa.array(rows)).replace_schema_metadata(None)


def test_items_that_moved_are_not_compared(workdir: Path) -> None:
    folder = delta_of(workdir)
    assert verify(folder) == []
    found = rehearse_beside(folder, open_stock(workdir).folder)
    assert found["histories"] == 32 and found["new"] == 0


def test_another_ranking_of_the_rest_is_found(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tesserec.recommender import Recommender

    folder, parent = delta_of(workdir), open_stock(workdir).folder
    real = Recommender.recommend_rows

    def other(self: Recommender, *args: Any, **more: Any) -> Any:
        rows, scores = real(self, *args, **more)
        if self.release_id == folder.name:
            scores = scores * np.float32(1.01)
        return rows, scores

    monkeypatch.setattr(Recommender, "recommend_rows", other)
    with pytest.raises(GateFailed, match="ranks items that did not change otherwise"):
        rehearse_beside(folder, parent)


def test_a_new_item_that_never_comes_out_is_found(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tesserec.recommender import Recommender

    config, made = extended(workdir)
    del config
    told = made.read_json("change.json")
    real = Recommender.recommend_rows

    def blind(self: Recommender, *args: Any, **more: Any) -> Any:
        rows, scores = real(self, *args, **more)
        return np.where(rows == 61, -1, rows), scores

    monkeypatch.setattr(Recommender, "recommend_rows", blind)
    releases = workdir / "releases"
    with pytest.raises(GateFailed, match=r"1 of 2 new items can't be recommended .* 'I101' is"):
        rehearse_beside(releases / told["release_id"], releases / told["parent"])
