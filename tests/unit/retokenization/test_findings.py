"""What a decision looks at, on a tiny stock; and the decision that is remembered."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tesserec.config import change_config, to_dict
from tesserec.data.exposures import EXPOSURES, hour_folder
from tesserec.release import promote
from tesserec.retokenization import findings, life
from tesserec.retokenization.history import history_file, read_history
from tesserec.retokenization.stock import Stock, open_stock
from tesserec.steps import decide, extend, survey
from tests.fakes.events import events, walks
from tests.fakes.stock import row, source_rows, stock_release, write_source

NOTHING = np.zeros((0, 8), np.float32)
HOUR = 3600


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    stock_release(tmp_path, tmp_path / "data")
    return tmp_path


def encoded(workdir: Path, rows: list[dict[str, Any]], *, now: int | None = None) -> Stock:
    """The promoted release, after it has taken in what the source says now."""
    write_source(workdir / "data", rows)
    config = change_config(open_stock(workdir).config, [])
    with pytest.MonkeyPatch.context() as patch:
        if now is not None:
            patch.setattr(survey, "time", SimpleNamespace(time=lambda: now))
        found = survey.run(workdir, config)
    made = extend.run(workdir, config, found).read_json("change.json")
    promote(workdir, made["release_id"])
    return open_stock(workdir)


def other(stock: Stock, **fields: Any) -> Stock:
    """The same release with another manifest."""
    return Stock(stock.folder, {**stock.manifest, **fields})


# ---- drift ----


def test_few_new_items_are_not_tested(workdir: Path) -> None:
    stock = open_stock(workdir)
    (found,) = findings.drift_findings(workdir, stock, NOTHING, seed=1)
    assert not found.fires and found.text == "drift was not tested: 0 new items"
    stock.__dict__["reference"] = None
    (found,) = findings.drift_findings(workdir, stock, NOTHING, seed=1)
    assert not found.fires and found.text == "drift was not tested: no held-out items"


def test_new_items_of_another_kind_drift_and_copies_do_not(workdir: Path) -> None:
    stock = open_stock(workdir)
    x = np.load(next((workdir / "artifacts").glob("vectors-*")) / "vectors.npy")
    assert stock.reference is not None
    held = np.array([int(item[1:]) for item in stock.reference.item_ids])
    same, *_ = findings.drift_findings(workdir, stock, np.repeat(x[held], 5, axis=0), seed=1)
    assert not same.fires and same.p is not None
    rng = np.random.default_rng(3)
    odd = (x[:1] * 3 + 0.01 * rng.normal(size=(100, x.shape[1]))).astype(np.float32)
    drifted, *tests = findings.drift_findings(workdir, stock, odd, seed=1)
    assert drifted.fires and "100 new items drift from the held-out ones" in drifted.text
    assert [t.test for t in tests] == [
        "drift_psi", "drift_entropy", "drift_ks", "drift_mean", "folk_psi"
    ]  # fmt: skip
    assert not any(t.fires for t in tests)  # shown; the first line is the verdict


def test_items_that_the_tokenizer_has_followed_since_are_new_no_more(workdir: Path) -> None:
    rows = source_rows()
    stock = encoded(workdir, [*rows, *(row(100 + n) for n in range(35))], now=1_000)
    found = findings.drift_findings(workdir, stock, NOTHING, seed=1)
    assert len(found) == 6 and "35 new items" in found[0].text
    (found_later,) = findings.drift_findings(
        workdir, other(stock, maintained_at=1_000), NOTHING, seed=1
    )
    assert found_later.text == "drift was not tested: 0 new items"
    later = encoded(workdir, [*rows, *(row(100 + n) for n in range(70))], now=2_000)
    found = findings.drift_findings(workdir, other(later, maintained_at=1_000), NOTHING, seed=1)
    assert "35 new items" in found[0].text


# ---- the table ----


def test_a_table_as_it_began_is_healthy(workdir: Path) -> None:
    found = findings.health_finding(open_stock(workdir))
    assert not found.fires and found.text == "as it began"


def test_a_crowd_and_codes_out_of_use_are_not(workdir: Path) -> None:
    stock = open_stock(workdir)
    codes = stock.codes.copy()
    codes[20:] = codes[0]
    stock.__dict__["codes"] = codes
    found = findings.health_finding(stock)
    assert found.fires and found.effect < -0.02
    assert found.text.startswith("the code table got worse: a bucket of 4")
    assert "codes in use" in found.text and "entropy" in found.text


def test_items_that_are_gone_crowd_nobody(workdir: Path) -> None:
    stock = open_stock(workdir)
    codes = np.concatenate([stock.codes, np.repeat(stock.codes[:1], 40, axis=0)])
    status = pa.array([life.ACTIVE] * 60 + [life.RETIRED] * 40)
    stock.__dict__.update(codes=codes, items=pa.table({life.STATUS: status}))
    assert not findings.health_finding(stock).fires


def test_items_that_were_edited_beyond_their_code(workdir: Path) -> None:
    stock = open_stock(workdir)
    assert not findings.edits_finding(stock).fires
    rows = source_rows()
    for number in (3, 14, 25, 36):
        rows[number] |= {"title": "soft soft soft plain", "categories": ["Shop > C5"]}
    found = findings.edits_finding(encoded(workdir, rows, now=1_000))
    assert found.fires and found.effect > 0.01, found.text
    later = other(open_stock(workdir), maintained_at=1_000)
    assert not findings.edits_finding(later).fires  # codes moved since


# ---- ages ----


def test_a_model_is_old_if_there_are_events_that_it_does_not_know(workdir: Path) -> None:
    files = [["interactions.parquet", "abc"]]
    feats = events(workdir, walks(users=3), files=files, log="log1")
    stock = other(open_stock(workdir), maintained_at=10_000, features=feats.key)

    def fires(now: int, files: list[list[str]], log: str | None) -> bool:
        return findings.age_findings(workdir, stock, files, log, now=now)[0].fires

    day = 10_000 + 24 * HOUR
    assert not fires(day, files, "log1")
    assert fires(day, files, "log2") and fires(day, [["interactions.parquet", "new"]], "log1")
    assert not fires(day - 1, files, "log2")
    (young, _), (old, _) = (
        findings.age_findings(workdir, stock, files, "log2", now=now) for now in (day - 1, day)
    )
    assert young.text == "the model is 24 h old" and old.text.endswith("that it doesn't know")
    gone = other(stock, features="0123")  # pruned: who can tell?
    assert findings.age_findings(workdir, gone, files, "log1", now=day)[0].fires


def test_a_tokenizer_of_half_a_year_deserves_a_look(workdir: Path) -> None:
    from datetime import datetime

    stock = open_stock(workdir)
    born = int(datetime.fromisoformat(stock.manifest["created"]).timestamp())
    texts = []
    for days in (179, 182):
        now = born + days * 24 * HOUR
        (_, found) = findings.age_findings(workdir, other(stock, features="0"), [], None, now=now)
        assert not found.fires
        texts.append(found.text)
    assert texts == ["", "the tokenizer is 182 days old; compare it with a rebuild"]


# ---- configuration and exposure ----


def test_another_encoder_or_tokenizer_is_asked_for(workdir: Path) -> None:
    stock = open_stock(workdir)
    as_it_is = change_config(stock.config, ["encoder.vectors=other.npy", "model.dim=64"])
    found = findings.encoder_finding(stock, to_dict(as_it_is))
    assert not found.fires and found.text == "as configured"
    changed = change_config(stock.config, ["encoder.lsa_dim=99", "tokenizer.digits=2"])
    found = findings.encoder_finding(stock, to_dict(changed))
    assert found.fires and found.effect == 2
    assert found.text == (
        "encoder.lsa_dim is 99, the release has 12; tokenizer.digits is 2, the release has 4"
    )


def test_new_items_that_are_hardly_shown(workdir: Path) -> None:
    now = 1_800_000_000
    stock = encoded(workdir, [*source_rows(), *(row(100 + n) for n in range(20))], now=now - HOUR)
    assert findings.exposure_finding(workdir, stock, now=now) is None
    active = life.in_status(stock.items, life.ACTIVE)
    old, new = stock.item_ids[0], stock.item_ids[60 + int(np.flatnonzero(active[60:])[0])]
    shown(workdir, (now - 60) * 1000, [old] * 19 + [new])
    found = findings.exposure_finding(workdir, stock, now=now)
    assert found is not None and not found.fires and found.effect < 0.5
    assert "had 5.0% of what was shown" in found.text and found.text.endswith("raise quota_new")
    shown(workdir, (now - 30) * 1000, [new] * 20)
    found = findings.exposure_finding(workdir, stock, now=now)
    assert found is not None and found.effect > 1 and "quota_new" not in found.text


def shown(workdir: Path, moment: int, items: list[str]) -> None:
    one: dict[str, Any] = {"timestamp_ms": moment, "user_id": "U", "release_id": "r"}
    one |= {"source": "model", "item_ids": items, "share": 1.0}
    folder = hour_folder(workdir, moment)
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist([one], schema=EXPOSURES)
    pq.write_table(table, folder / f"{len(list(folder.iterdir()))}.parquet")


# ---- the step ----


def decided(workdir: Path, *overrides: str) -> dict[str, Any]:
    config = change_config(open_stock(workdir).config, list(overrides))
    return decide.run(workdir, config, survey.run(workdir, config)).read_json("decision.json")


def test_nothing_then_new_items_then_another_encoder(workdir: Path) -> None:
    assert decided(workdir)["due"] == "none"
    write_source(workdir / "data", [*source_rows()[1:], row(100), row(101)])
    told = decided(workdir)
    assert told["due"] == "encode" and told["reasons"] == ["3 items wait"]
    assert told["waiting"] == {"new": 2, "changed": 0, "gone": 1, "back": 0, "overdue": 0}
    assert decided(workdir, "encoder.lsa_dim=99")["due"] == "rebuild"
    assert [line["due"] for line in read_history(workdir)] == ["none", "encode", "rebuild"]


def test_drift_is_acted_on_when_it_is_seen_twice(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        findings,
        "drift_findings",
        lambda *_, **__: [findings.Finding("drift", 1.0, True, text="odd")],
    )
    assert [decided(workdir)["due"] for _ in range(3)] == ["none", "maintain", "maintain"]
    history_file(workdir).unlink()  # nobody remembers the first time
    assert decided(workdir)["due"] == "none"
