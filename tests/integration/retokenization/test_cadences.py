"""encode, maintain, decide by the command line, on a tiny release and real events."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tesserec.data.schemas import INTERACTIONS
from tesserec.release import promoted, read_pointer, rollback, verify
from tesserec.retokenization.history import read_history
from tesserec.retokenization.ledger import read_ledger, replay
from tesserec.retokenization.stock import open_stock
from tesserec.tables import grow_codes
from tests.command import tesserec
from tests.fakes.events import walks
from tests.fakes.release import item_id
from tests.fakes.stock import row, source_rows, stock_release, write_source

LOOSE = [
    "gates.max_loss=0.99", "gates.max_slice_loss=0.99", "training.threads=1",
    "training.batch_users=8", "retokenization.tuning.epochs=2",
]  # fmt: skip
OURS = re.compile(r"  \S+ +\d+\.\d s|  note: |error: |run ")  # lines of steps, remarks, the end


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release whose source lists two items more and has events that its model doesn't know."""
    workdir = tmp_path_factory.mktemp("cadences")
    data = workdir / "data"
    stock_release(workdir, data)
    write_source(data, [*source_rows(), row(100), row(101)])
    told = walks()
    for number, user in enumerate(list(told)[:20]):  # the new ones are liked at once
        told[user][-1] = (item_id(100 + number % 2), told[user][-1][1])
    events = [
        {"user_id": user, "item_id": item, "timestamp": at, "position": place}
        | {"event_type": "interaction"}
        for user, steps in told.items()
        for place, (item, at) in enumerate(steps)
    ]
    pq.write_table(pa.Table.from_pylist(events, schema=INTERACTIONS), data / "interactions.parquet")
    return workdir


def retokenize(workdir: Path, action: str, *more: str) -> subprocess.CompletedProcess[str]:
    return tesserec("retokenize", action, "--workdir", str(workdir), "--json", *more)


def test_one_after_the_other(workdir: Path) -> None:
    base = promoted(workdir)
    due = retokenize(workdir, "decide")
    assert due.returncode == 0, due.stderr
    assert json.loads(due.stdout)["decision"]["due"] == "encode"
    encoded = retokenize(workdir, "encode")
    assert encoded.returncode == 0, encoded.stderr
    assert json.loads(encoded.stdout)["new_items"] == 2
    middle = open_stock(workdir)
    done = retokenize(workdir, "maintain", *LOOSE)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["parent"] == middle.release_id and told["tuning"]["targets"] == 160
    after = open_stock(workdir)
    assert after.release_id == told["release_id"] and verify(after.folder) == []
    assert after.item_ids == middle.item_ids
    base_codes = grow_codes(after.paths("codes")[:1])
    np.testing.assert_array_equal(
        replay(base_codes, read_ledger(after.paths("ledger"))), after.codes
    )
    counts = dict(zip(after.item_ids, after.items["count_all"].to_pylist(), strict=True))
    assert counts[item_id(100)] == counts[item_id(101)] == 10
    last = retokenize(workdir, "decide")
    assert json.loads(last.stdout)["decision"]["due"] == "none", last.stdout
    lines = [(line["cadence"], line["release_id"], line["ok"]) for line in read_history(workdir)]
    assert lines == [
        ("decide", base, True),
        ("encode", middle.release_id, True),
        ("maintain", after.release_id, True),
        ("decide", after.release_id, True),
    ]
    assert read_pointer(workdir) is not None
    for one in (due, encoded, done, last):  # what libraries have to say is no business of ours
        for line in one.stderr.splitlines():
            assert OURS.match(line), one.stderr


@pytest.mark.slow
def test_a_refusal_is_one_line_and_remembered(workdir: Path) -> None:
    """Of a model that a hundred times the usual rate has spoiled."""
    rollback(workdir)
    parent = promoted(workdir)
    spoiled = ["retokenization.tuning.learning_rate=5", "retokenization.tuning.epochs=9"]
    done = retokenize(workdir, "maintain", *LOOSE[2:4], *spoiled)
    assert done.returncode == 3, done.stderr
    assert promoted(workdir) == parent
    (error,) = (line for line in done.stderr.splitlines() if not line.startswith("  "))
    assert error.startswith("error: the gate says no: ") and "see " in error
    line = read_history(workdir)[-1]
    assert (line["cadence"], line["parent"], line["ok"]) == ("maintain", parent, False)


@pytest.mark.slow
def test_a_training_that_ends_in_no_number(workdir: Path) -> None:
    rate = "retokenization.tuning.learning_rate=1e30"
    done = retokenize(workdir, "maintain", *LOOSE, rate)
    assert done.returncode == 1, done.stderr
    (error,) = (line for line in done.stderr.splitlines() if not line.startswith("  "))
    assert error.startswith("error: the loss is ")
    assert error.endswith(
        "lower retokenization.tuning.learning_rate, or that of retokenization.rebuild (1e+30)"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "remedy"),
    [("vectors", "restore it, or run the configuration again"), ("features", "")],
)
def test_an_artefact_that_is_missing(workdir: Path, kind: str, remedy: str) -> None:
    """Of vectors the error says what to do; features are made again."""
    key = open_stock(workdir).manifest["sources"][kind]
    path = workdir / "artifacts" / f"{kind}-{key}"
    aside = path.rename(path.with_name("aside"))
    try:
        done = retokenize(workdir, "maintain", *LOOSE, "retokenization.slack=0.5")
    finally:
        aside.rename(path)
    assert done.returncode == (1 if remedy else 0), done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == bool(remedy) and "Traceback" not in done.stderr
    if remedy:
        assert remedy in errors[0] and str(path) in errors[0]
