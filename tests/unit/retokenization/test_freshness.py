"""How fresh a release is: lags, ages, codes, the drill, and the textfile that Prometheus reads."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tesserec.artifacts import Artifact, build
from tesserec.data.exposures import EXPOSURES, hour_folder
from tesserec.release import promote, promoted, read_pointer, release_folder
from tesserec.retokenization import drill
from tesserec.retokenization.code_facts import churn_facts
from tesserec.retokenization.freshness import freshness
from tesserec.retokenization.lags import lags
from tesserec.retokenization.runs import ADVICE, read_records, run_facts
from tesserec.retokenization.stock import open_stock
from tesserec.retokenization.textfile import HELP, PREFIX, textfile
from tests.fakes import freshness as fake
from tests.fakes.freshness import encoded
from tests.fakes.metrics import parse
from tests.fakes.stock import row, stock_release
from tests.unit.retokenization.test_hand_over import delta_of

PAGE = Path(__file__).resolve().parents[3] / "docs" / "retokenization.md"


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    stock_release(tmp_path, tmp_path / "data")
    return tmp_path


def handed(workdir: Path, made: Artifact, **more: Any) -> int:
    """Promote what was encoded; when it was reachable."""
    return int(fake.handed(workdir, made, **more).read_json("handover.json")["at"])


def of_now(workdir: Path, now: int) -> dict[str, Any]:
    return freshness(workdir, change={}, evidence=None, now=now)


def born(workdir: Path, release: str) -> float:
    manifest = json.loads((release_folder(workdir, release) / "manifest.json").read_text())
    return datetime.fromisoformat(manifest["created"]).timestamp()


# ---- lag ----


def test_only_what_was_listed_since_the_parent_tells_how_long_listing_took(workdir: Path) -> None:
    made_at = int(born(workdir, str(promoted(workdir)))) + 1
    time.sleep(1.1)  # times are in seconds, and the survey comes after the listing
    listed = [row(100, listed_at=1000), row(101, listed_at=made_at), row(102, listed_at=None)]
    future = row(103, listed_at=made_at + 10**6)
    made = encoded(workdir, [*listed, future])
    at = handed(workdir, made, after_s=30, served=False)
    found = lags(workdir, now=at)
    assert found["items"] == 4 and found["left_out"] == 3 and not found["served"]
    assert found["hops"]["encoded_reachable"]["items"] == 4
    assert found["hops"]["encoded_reachable"]["p50"] == 30
    hop = found["hops"]["listed_reachable"]
    assert hop["items"] == 1 and hop["p99"] == at - made_at == hop["p50"]
    assert found["hops"]["listed_encoded"]["p95"] == at - 30 - made_at
    assert len(hop["curve"]) == 101


def test_hand_overs_of_days_ago_do_not_count(workdir: Path) -> None:
    at = handed(workdir, encoded(workdir, [row(100)]))
    assert lags(workdir, now=at)["items"] == 1
    later = lags(workdir, now=at + 90_000)
    assert later["items"] == 0 and later["hops"]["encoded_reachable"]["p95"] is None


def test_the_lag_outlives_a_pruned_survey(workdir: Path) -> None:
    made = encoded(workdir, [row(100)])
    at = handed(workdir, made)
    shutil.rmtree(fake.surveyed(workdir, made))
    assert lags(workdir, now=at)["items"] == 0


# ---- the other parts ----


def test_a_first_release_says_what_there_is_nothing_to_say_of(workdir: Path) -> None:
    found = of_now(workdir, 2_000_000_000)
    parts = {name: part for name, part in found.items() if isinstance(part, dict)}
    assert len(parts) == 10 and [n for n, p in parts.items() if "problem" in p] == [
        "rollback_drill"
    ]
    assert found["lag"]["items"] == 0 and found["quarantine"]["size"] == 0
    assert "first release" in found["churn"]["reason"] and found["codes"]["before"] is None
    assert (
        "no item came" in found["collisions"]["reason"] and "logged" in found["exposure"]["reason"]
    )
    assert found["drift"]["tests"] == [] and "not tested" in found["drift"]["text"]
    assert found["rollback_drill"]["ok"] is None
    assert [one["cadence"] for one in found["releases"]["releases"]] == ["run"]


def test_nothing_is_promoted(tmp_path: Path) -> None:
    found = of_now(tmp_path, 5)
    assert found["release_id"] is None and found["releases"]["releases"] == []
    assert "rollback_drill_ok" not in textfile(found | {"run": run_facts(tmp_path, "r", [])})


def test_new_items_quarantine_and_churn(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drill, "_answer", lambda *_: None)
    empty = {"title": None, "categories": None, "price": None}
    made = encoded(workdir, [*[row(100 + i) for i in range(40)], row(200, **empty)])
    at = handed(workdir, made)
    found = of_now(workdir, at + 25 * 3600)
    waits = found["quarantine"]
    assert waits["size"] == waits["overdue"] == 1 and waits["by_reason"] == {"no content": 1}
    assert waits["by_hour"][24] == 1 and sum(waits["by_hour"]) == 1
    assert waits["oldest_at"] == at - 30
    assert found["churn"]["compared"] == 60 and found["churn"]["items"] == 0
    assert found["churn"]["by_digit"] == [0, 0, 0, 0] and found["churn"]["unit"] == "digits"
    met = found["collisions"]
    assert met["new_items"] == 40 and met["old_items"] == 60 and 0 < met["new"] <= 1
    assert {t["test"] for t in found["drift"]["tests"]} == {"psi", "entropy", "ks", "mean"}
    assert found["age"]["cadence"] == "encode" and 25 < found["age"]["release_h"] < 26
    assert len(found["codes"]["after"]["entropy"]) == 4 and found["codes"]["before"]


def test_impressions_are_those_that_the_change_weighed(workdir: Path) -> None:
    parent = open_stock(workdir)
    promote(workdir, delta_of(workdir).name)
    stock = open_stock(workdir)
    weighed = {"items": 1 / 30, "impressions": 0.5, "digits": 0.1, "digit_impressions": 0.25}
    change = {"release_id": stock.release_id, "churn": weighed, "impressions_from": "interactions"}
    found = churn_facts(workdir, stock, parent, change, now=10**9)
    assert (found["impressions"], found["digit_impressions"]) == (0.5, 0.25)
    assert found["impressions_from"] == "interactions" and found["moved"] == 2
    other = churn_facts(workdir, stock, parent, change | {"release_id": "r"}, now=10**9)
    assert other["impressions"] == pytest.approx(2 / 60)
    assert other["impressions_from"] == "items alike"


def test_collisions_count_tuples_that_older_items_have(workdir: Path) -> None:
    handed(workdir, encoded(workdir, [row(0, item_id="TWIN")]))
    stock = open_stock(workdir)
    assert (stock.codes[60] == stock.codes[0]).all()
    found = of_now(workdir, 2_000_000_000)["collisions"]
    table = [tuple(code) for code in stock.codes[:60].tolist()]
    assert found["new"] == 1.0
    assert found["old"] == pytest.approx(sum(table.count(c) > 1 for c in table) / 60)


def test_exposures_of_new_items(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.setattr(drill, "_answer", lambda *_: None)
    at = handed(workdir, encoded(workdir, [row(100)]))
    answer = {"timestamp_ms": at * 1000, "user_id": "", "release_id": "r", "source": "model"}
    answer |= {"item_ids": ["I100", "I001"], "share": 1.0}
    folder = hour_folder(workdir, at * 1000)
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([answer], EXPOSURES), folder / "a.parquet")
    found = of_now(workdir, at + 60)
    assert found["exposure"]["ratio"] == pytest.approx(0.5 / (1 / 61))
    assert found["churn"]["impressions_from"] == "exposures"


def test_one_part_that_breaks_leaves_the_others(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tesserec.retokenization import freshness as module

    def broken(*_: Any) -> Any:
        raise ValueError("torn")

    monkeypatch.setattr(module, "collision_facts", broken)
    found = of_now(workdir, 2_000_000_000)
    assert found["collisions"] == {"problem": "ValueError: torn"}
    assert found["codes"]["items"] == 60
    text = textfile(found | {"run": run_facts(workdir, "r", [])})
    assert "collision_share" not in text and "entropy_share" in text


# ---- the drill ----


def test_the_drill_answers_with_the_former_release_and_moves_nothing(workdir: Path) -> None:
    first = promoted(workdir)
    handed(workdir, encoded(workdir, [row(100)]))
    before = read_pointer(workdir)
    found = drill.rollback_drill(workdir, now=1000)
    assert found["ok"] is True and found["release_id"] == first and found["seconds"] >= 0
    assert read_pointer(workdir) == before and found["problem"] is None
    assert drill.rollback_drill(workdir, now=2000)["at"] == 1000  # once a day
    assert drill.rollback_drill(workdir, now=1000 + 86_400)["at"] == 87_400


def test_the_drill_finds_a_former_release_that_is_damaged(workdir: Path) -> None:
    first = str(promoted(workdir))
    handed(workdir, encoded(workdir, [row(100)]))
    (release_folder(workdir, first) / "metrics.json").write_text("{}")
    found = drill.rollback_drill(workdir, now=1000)
    assert found["ok"] is False and "metrics.json" in found["problem"]
    # a bad result is looked at again
    assert drill.rollback_drill(workdir, now=1001)["at"] == 1001


def test_nothing_to_go_back_to(workdir: Path) -> None:
    found = drill.rollback_drill(workdir, now=1000)
    assert found["ok"] is None and "no earlier promotion" in found["problem"]
    assert not drill.drill_file(workdir).exists()


# ---- the run ----


def line(step: str, **more: Any) -> dict[str, Any]:
    return {"step": step, "event": "end", "artifact": None, "reused": False, "seconds": 1.0} | more


def verdict(workdir: Path, table: str) -> dict[str, Any]:
    failed = {"table": table, "column": "x", "expectation": "e", "severity": "critical"}
    failed |= {"bad_share": None, "examples": [], "message": "it is not so"}
    said = {"name": "judge", "passed": False, "failed_expectations": [failed], "checked": 3}
    said |= {"rows": {table: 1}, "tables": {}}

    def make(folder: Path) -> None:
        (folder / "verdict.json").write_text(json.dumps(said))

    artifact, _ = build(workdir, "judgement", params={"t": table}, parents=[], version=1, make=make)
    return artifact.pointer()


@pytest.mark.parametrize("table", ["ledger", "table", "refresh", "against_promoted", "slices"])
def test_a_gate_that_says_no_says_what_to_do(tmp_path: Path, table: str) -> None:
    no = line("judge", error="no", error_type="GateFailed", artifact=verdict(tmp_path, table))
    found = run_facts(tmp_path, "r1", [line("extend"), no])
    assert found["failed"] == {"step": "judge", "error": "no", "gate": True}
    assert found["advice"] == ADVICE[table] and found["gates"] == {"judge": False}
    assert found["verdicts"][0]["failed"][0]["message"] == "it is not so" and not found["ok"]


def test_a_canary_that_differs(tmp_path: Path) -> None:
    off = run_facts(tmp_path, "r", [line("survey", error="other codes", error_type="GateFailed")])
    assert off["canary_ok"] is False and off["advice"] == ADVICE["canary"]
    text = textfile({"run": off, "release_id": None, "at": 5})
    assert f"{PREFIX}canary_ok 0\n" in text and f'{PREFIX}gate_ok{{gate="canary"}} 0' in text
    bad = line("survey", error="no such file", error_type="DataError")
    found = run_facts(tmp_path, "r", [bad])
    assert found["canary_ok"] is True and "same command" in found["advice"]


def test_items_that_a_refusal_leaves_waiting(workdir: Path) -> None:
    made = encoded(workdir, [row(100), row(101)])
    folder = fake.surveyed(workdir, made)
    pointer = {"id": folder.name, "uri": "/moved/away", "content_hash": ""}
    steps = [line("survey", artifact=pointer), line("extend", artifact=made.pointer())]
    no = line("judge", error="no", error_type="GateFailed")
    assert run_facts(workdir, "r", [*steps, no])["waiting"] == 2
    assert run_facts(workdir, "r", [*steps, line("hand_over")])["waiting"] == 0
    assert run_facts(workdir, "r", [])["waiting"] is None
    counts = run_facts(workdir, "r", steps)["made"][0]["counts"]
    assert counts["new_items"] == 2


def test_torn_lines_are_passed_over(tmp_path: Path) -> None:
    assert read_records(tmp_path) == []
    text = json.dumps(line("survey")) + '\n{"step": "ex'
    (tmp_path / "steps.jsonl").write_text(text)
    assert [r["step"] for r in read_records(tmp_path)] == ["survey"]


# ---- the textfile ----


def test_the_textfile_is_what_prometheus_reads(workdir: Path) -> None:
    at = handed(workdir, encoded(workdir, [row(100 + i) for i in range(35)]))
    facts = of_now(workdir, at) | {"run": run_facts(workdir, "r", [line("survey")])}
    text = textfile(facts)
    found = parse(text)
    assert found["tesserec_retokenization_rollback_drill_ok",] == 1
    assert found["tesserec_retokenization_release_timestamp_seconds",] > 1e9
    hop = ("tesserec_retokenization_lag_seconds", "hop=encoded_reachable", "percentile=95")
    assert found[hop] == 30
    entropy = [v for key, v in found.items() if key[0].endswith("entropy_share")]
    assert entropy == pytest.approx(facts["codes"]["after"]["entropy"])
    names = re.findall(r"^# HELP (\S+) ", text, re.M)
    assert len(names) == len(set(names)) and names == re.findall(
        r"^# TYPE (\S+) gauge$", text, re.M
    )
    assert {key[0] for key in found} == set(names)
    if promtool := shutil.which("promtool"):
        done = subprocess.run(
            [promtool, "check", "metrics"], input=text.encode(), capture_output=True
        )
        assert done.returncode == 0, done.stderr


def test_labels_are_escaped() -> None:
    run = run_facts(Path("/nowhere"), "r", []) | {"cadence": 'a"b\\c\nd'}
    text = textfile({"run": run, "release_id": None, "at": 5})
    assert 'cadence="a\\"b\\\\c\\nd"' in text


# ---- the page that explains it ----


def test_the_runbook_names_every_gate_and_every_metric() -> None:
    text = PAGE.read_text()
    for name in ADVICE:
        assert f"| `{name}`" in text, f"the runbook has no row for {name}"
    told = (PAGE.parent / "operations.md").read_text()
    for name in HELP:
        assert f"| `…{name}` |" in told, f"docs/operations.md has no row for {name}"
