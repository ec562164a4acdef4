"""What a survey finds in each kind of source, what it refuses, and what stops it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from tesserec.config import RunConfig, change_config
from tesserec.errors import ArtifactError, DataError, GateFailed, UsageError
from tesserec.release import promoted
from tesserec.retokenization.canary import check_canary
from tesserec.retokenization.stock import open_stock
from tesserec.steps import extend, survey
from tests.fakes.release import tiny_release
from tests.fakes.stock import (
    given_vectors,
    items_table,
    row,
    source_rows,
    stock_release,
    write_source,
)

NEW = [row(100, item_id="N1", listed_at=7), row(5, item_id="N2", title="Ü – round")]
Row = dict[str, Any]


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    stock_release(tmp_path, tmp_path / "data")
    return tmp_path


def config_of(workdir: Path, *overrides: str) -> RunConfig:
    return change_config(open_stock(workdir).config, list(overrides))


def surveyed(workdir: Path, *overrides: str, items: str = "") -> survey.Survey:
    return survey.read_survey(survey.run(workdir, config_of(workdir, *overrides), items=items))


def changed_rows() -> list[Row]:
    """New, edited, hidden, otherwise listed and vanished items, in another order."""
    rows = source_rows()
    rows[3]["title"] = "cold cold"
    rows[4]["available"] = False
    rows[5]["listed_at"] = 9
    rows[6]["listed_at"] = None  # the release knows better
    del rows[8]
    return [NEW[0], *rows[::-1], NEW[1]]


def ids(table: pa.Table) -> list[str]:
    return table["item_id"].to_pylist()


def check_changed(found: survey.Survey) -> None:
    assert ids(found.listing.new) == ["N1", "N2"]
    assert sorted(ids(found.listing.changed)) == ["I003", "I004", "I005"]
    edited = [i for i, e in zip(ids(found.listing.changed), found.listing.edited, strict=True) if e]
    assert edited == ["I003"]
    assert np.flatnonzero(~found.listing.seen).tolist() == [8]
    assert np.isfinite(found.vectors).all(axis=1).tolist() == found.listing.to_encode.tolist()


def test_the_same_source_tells_nothing_new(workdir: Path) -> None:
    found = surveyed(workdir)
    assert found.summary["read"] == 60 and found.summary["canary"] == 60
    assert not found.listing.new.num_rows and not found.listing.changed.num_rows
    assert found.listing.seen.all() and not len(found.vectors)
    made = extend.run(workdir, config_of(workdir), survey.run(workdir, config_of(workdir)))
    assert made.read_json("change.json")["release_id"] is None


def test_our_own_form(workdir: Path) -> None:
    write_source(workdir / "data", changed_rows())
    found = surveyed(workdir)
    check_changed(found)
    both = pa.concat_tables([found.listing.new, found.listing.changed.drop_columns(["row"])])
    want = open_stock(workdir).encoder.encode(both)
    asked = found.listing.to_encode
    assert np.array_equal(found.vectors[asked], want[asked])


def write_csv(path: Path, rows: list[Row], *bad: list[str]) -> None:
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["sku", "name", "path", "cost", "shown", "since"])
        for place, r in enumerate(rows):
            if place == 2:
                out.writerows(bad)
            path_of = "|".join(r["categories"][0].split(" > ")) if r["categories"] else ""
            facts = [r["item_id"], r["title"], r["categories"] and path_of, r["price"]]
            out.writerow([*facts, r["available"], r["listed_at"]])


def test_a_folder_of_csv_with_refused_rows(workdir: Path) -> None:
    folder = workdir / "csv"
    folder.mkdir()
    rows = changed_rows()
    for one in rows:  # one path a cell
        one["categories"] = [one["categories"][0].split(" > ")[-1]]
    known = {r["item_id"] for r in rows}
    bad = [["", "no id", "", "1", "", ""], ["I001", "twice", "", "", "", ""], ["short"]]
    write_csv(folder / "items.csv", rows, *bad)
    (folder / "interactions.csv").write_text("user_id,item_id\nU1,I000\n")
    names = "{item_id: sku, title: name, categories: path, price: cost, available: shown, "
    names += "listed_at: since}"
    overrides = ["data.source=folder", f"data.path={folder}", "data.items=items.csv"]
    overrides += [f"data.columns={{items: {names}}}", "data.max_bad_share=0.1"]
    found = surveyed(workdir, *overrides)
    assert ids(found.listing.new) == ["N1", "N2"], "bad rows cost no good one"
    assert found.summary["read"] == len(rows) + 3
    told = found.summary["refused"]
    assert told["no item_id"] == 1 and sum(told.values()) == 3, told
    # the paths of the release have two levels: all items are edited, none is gone but one
    assert set(ids(found.listing.changed)) == known - {"N1", "N2"}
    assert np.flatnonzero(~found.listing.seen).tolist() == [8]
    with pytest.raises(DataError, match=r"2 of 64 items are refused \(allowed 1.0%\)"):
        surveyed(workdir, *overrides[:-1], "data.max_bad_share=0.01")


def test_a_feed_retires_nobody(workdir: Path) -> None:
    edited = row(3, title="cold cold")
    path = workdir / "today.parquet"
    pq.write_table(items_table([NEW[0], edited, row(9)]), path)
    found = surveyed(workdir, items=str(path))
    assert not found.summary["whole"] and found.summary["read"] == 3
    assert ids(found.listing.new) == ["N1"] and ids(found.listing.changed) == ["I003"]
    config = config_of(workdir)
    made = extend.run(workdir, config, survey.run(workdir, config, items=str(path)))
    counts = made.read_json("change.json")["counts"]
    assert counts["new_items"] == 1 and counts["edited"] == 1 and counts["retired"] == 0
    with pytest.raises(UsageError, match=r"nowhere\.parquet: there is no such file"):
        surveyed(workdir, items=str(workdir / "nowhere.parquet"))


def test_an_empty_source_retires_nobody(workdir: Path) -> None:
    write_source(workdir / "data", [])
    with pytest.raises(DataError, match="the source is empty, and nothing was retired"):
        surveyed(workdir)


@pytest.mark.parametrize("name", ["vectors.npy", "vectors.parquet"])
def test_precomputed_vectors(tmp_path: Path, name: str) -> None:
    data = tmp_path / "data"
    stock_release(tmp_path, data, vectors=name)
    rows = changed_rows()
    rows.insert(
        len(rows) - 1, row(5, item_id="I001", title="twice")
    )  # refused, and has a vector all the same
    rows += [row(7, item_id="N3"), row(8, item_id="N4")]
    given = given_vectors(rows)
    given[-2] = np.nan  # the vector of N3 isn't there yet
    write_source(data, rows)
    write_vectors(data / name, rows, given)
    found = surveyed(tmp_path, "data.max_bad_share=0.1")
    assert ids(found.listing.new) == ["N1", "N2", "N4"]
    assert found.summary["refused"][f"no vector in {name}"] == 1
    encoder = open_stock(tmp_path).encoder
    places = [i for i, r in enumerate(rows) if r["item_id"] in ("N1", "N2", "N4")]
    want = encoder.whitening.apply(given[places])
    assert np.array_equal(found.vectors[:3], want)
    edited = found.vectors[3:][found.listing.edited]
    (place,) = (i for i, r in enumerate(rows) if r["item_id"] == "I003")
    assert np.array_equal(edited, encoder.whitening.apply(given[[place]]))
    if name.endswith("npy"):
        np.save(data / name, given[:-1])
        with pytest.raises(DataError, match=r"has \d+ rows, the items source \d+"):
            surveyed(tmp_path, "data.max_bad_share=0.1")


def write_vectors(path: Path, rows: list[Row], vectors: np.ndarray) -> None:
    if path.suffix == ".npy":
        np.save(path, vectors)
        return
    order = [i for i in range(len(rows) - 1, -1, -1) if np.isfinite(vectors[i]).all()]
    order = list({rows[i]["item_id"]: i for i in order}.values())
    columns = {
        "item_id": [rows[i]["item_id"] for i in order],
        "vector": [vectors[i].tolist() for i in order],
    }
    pq.write_table(pa.table(columns), path)


@pytest.mark.parametrize("name", ["new.npy", "new.parquet"])
def test_a_feed_with_vectors_of_its_own(tmp_path: Path, name: str) -> None:
    data = tmp_path / "data"
    stock_release(tmp_path, data, vectors="vectors.npy")
    rows = [*NEW, row(9)]
    write_vectors(tmp_path / name, rows, given_vectors(rows))
    pq.write_table(items_table(rows), tmp_path / "new_items.parquet")
    feed = str(tmp_path / "new_items.parquet")
    found = surveyed(tmp_path, f"encoder.vectors={tmp_path / name}", items=feed)
    assert ids(found.listing.new) == ["N1", "N2"] and found.vectors.shape == (2, 8)


# ---- what stops a survey ----


def flip(path: Path, tensor: str, bit: int) -> None:
    """One bit of the largest number in the second column of a safetensors file."""
    arrays = {k: v.copy() for k, v in load_file(path).items()}
    column = arrays[tensor][..., 1].reshape(-1).copy()
    number = column[[np.abs(column).argmax()]]
    number.view(np.uint8)[bit // 8] ^= 1 << (bit % 8)
    column[np.abs(column).argmax()] = number[0]
    arrays[tensor][..., 1] = column.reshape(arrays[tensor].shape[:-1])
    save_file(arrays, path)


FLIPS = {
    "a codebook": ("tokenizer/opq.safetensors", "centres", 26),
    "the whitening": ("encoder/whitening.safetensors", "weights", 53),
    "the components of LSA": ("encoder/lsa.safetensors", "components", 53),
}


@pytest.mark.parametrize("what", FLIPS)
def test_one_bit_stops_the_run(workdir: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hash finds it; and, if the hash is right too, the canary set."""
    write_source(workdir / "data", changed_rows())
    name, tensor, bit = FLIPS[what]
    stock = open_stock(workdir)
    flip(stock.folder / name, tensor, bit)
    before = sorted(p.name for p in (workdir / "releases").iterdir())
    with pytest.raises(ArtifactError, match=r"has other bytes .*: [0-9a-f]{12}, not [0-9a-f]{12}"):
        open_stock(workdir)
    monkeypatch.setattr("tesserec.retokenization.stock.require_sound", lambda _: None)
    with pytest.raises(GateFailed, match="the canary set is encoded otherwise"):
        surveyed(workdir)
    assert not list((workdir / "artifacts").glob("survey-*"))
    assert sorted(p.name for p in (workdir / "releases").iterdir()) == before
    assert promoted(workdir) == stock.release_id


def test_a_changed_library_stops_the_run(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the survey itself was done before."""
    surveyed(workdir)
    monkeypatch.setattr("tesserec.encoders.text.clean", lambda text: text.replace("r", ""))
    with pytest.raises(GateFailed, match="Restore it, or rebuild"):
        surveyed(workdir)


def test_a_canary_set_is_compared_item_by_item(workdir: Path) -> None:
    stock = open_stock(workdir)
    homes = stock.home("encoder"), stock.home("tokenizer")
    assert check_canary(homes[0], stock.encoder, homes[1], stock.tokenizer) == 60
    stock.tokenizer.centres[2, 5] += 3
    with pytest.raises(GateFailed, match=r"[1-9]\d* of 60 items get other codes, 0 other vectors"):
        check_canary(homes[0], stock.encoder, homes[1], stock.tokenizer)


def test_what_can_not_take_new_items_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no release is promoted"):
        open_stock(tmp_path)
    from tesserec.release import promote

    release = tiny_release(tmp_path, model="sasrec")
    promote(tmp_path, release)
    with pytest.raises(UsageError, match=f"{release} has model sasrec, which has no semantic IDs"):
        open_stock(tmp_path)


def test_an_older_release_is_told_how_to_be_made_again(tmp_path: Path) -> None:
    release = stock_release(tmp_path, tmp_path / "data", config=False)
    with pytest.raises(UsageError, match=rf"{release} doesn't tell .*: tesserec run CONFIG"):
        _ = open_stock(tmp_path).config


def test_given_codes_are_refused(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tesserec.retokenization.stock.load_tokenizer", lambda _: Fixed())
    with pytest.raises(UsageError, match=r"tokenizer 'given', a finished code table"):
        open_stock(workdir)


class Fixed:
    name = "given"
