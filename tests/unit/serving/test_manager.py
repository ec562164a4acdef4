"""The release manager: checks before it serves, follows the pointer, keeps what works."""

from __future__ import annotations

import ast
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tesserec.errors import ArtifactError, ServingError, UsageError
from tesserec.release import promote, release_folder
from tesserec.serving import manager as manager_module
from tesserec.serving import refusals
from tesserec.serving.handler import Handler
from tesserec.serving.manager import Manager
from tesserec.serving.meter import MemoryMeter
from tesserec.serving.request import Response, make_request
from tesserec.serving.status import status_file
from tests.fakes.release import SCHEMA_HASH, FakeReader, tiny_release


def opened(workdir: Path, release: str | None = None) -> Manager:
    return Manager(workdir, release, reader=lambda _: FakeReader())


def test_nothing_promoted_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="no release is promoted"):
        opened(tmp_path)
    with pytest.raises(UsageError, match="there is no release"):
        opened(tmp_path, "r00000000000")


def test_wrong_bytes_are_never_loaded(tmp_path: Path) -> None:
    release = tiny_release(tmp_path)
    promote(tmp_path, release)
    path = release_folder(tmp_path, release) / "models" / "rpg" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ArtifactError, match=r"model\.safetensors has other bytes"):
        opened(tmp_path)


def damage(workdir: Path, release: str) -> Callable[[], None]:
    """Returns what repairs it."""
    path = release_folder(workdir, release) / "models" / "rpg" / "model.safetensors"
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    return lambda: (path.write_bytes(good), None)[1]


def test_a_damaged_promoted_release_is_not_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, third = (tiny_release(tmp_path, seed=seed) for seed in (1, 2, 3))
    never = tiny_release(tmp_path, seed=4)  # not promoted: perhaps for a reason
    for release in (first, second, third):
        promote(tmp_path, release)
    damage(tmp_path, second)
    repair = damage(tmp_path, third)
    meter = MemoryMeter()
    manager = Manager(tmp_path, reader=lambda _: FakeReader(), meter=meter)
    assert manager.current.release_id == first
    assert f"RELEASE {third} IS PROMOTED AND NO GOOD; {first} ANSWERS INSTEAD" in caplog.text
    assert meter.values["tesserec_fallback",] == 1
    assert meter.values["tesserec_release_changes_total", "refused"] == 1
    manager.watch()
    status = json.loads(status_file(tmp_path).read_text())
    assert status["serving"] == first and status["instead_of"] == third
    assert "has other bytes" in status["refused"][0]["reason"]
    manager.close()
    repair()
    assert not manager.refresh_release(), "it is not tried again at once"
    monkeypatch.setattr(refusals, "RETRY_S", 0.0)
    assert manager.refresh_release() and manager.current.release_id == third
    assert meter.values["tesserec_fallback",] == 0
    damage(tmp_path, third)
    damage(tmp_path, first)
    with pytest.raises(ServingError) as caught:
        opened(tmp_path)
    assert all(f"{one}: release {one} is damaged" in str(caught.value) for one in (second, third))
    assert never not in str(caught.value)
    with pytest.raises(ArtifactError, match="has other bytes"):
        opened(tmp_path, third)  # a rehearsal means this one


def test_pauses_before_the_next_try_grow_until_the_pointer_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(refusals.time, "monotonic", lambda: clock.now)
    known = refusals.Refusals()
    for pause in (30, 60, 120, 240, 480, 600, 600):
        known.add("r1", "then", "damaged")
        clock.now += pause - 1
        assert known.hold("r1", "then") and not known.hold("r1", "anew")
        clock.now += 2
        assert not known.hold("r1", "then")


def test_another_schema_is_refused(tmp_path: Path) -> None:
    promote(tmp_path, tiny_release(tmp_path, schema_hash="other"))
    with pytest.raises(ServingError, match=f"schema other; the registry has .* {SCHEMA_HASH}"):
        opened(tmp_path)


def test_the_pointer_is_followed(tmp_path: Path) -> None:
    first, second = tiny_release(tmp_path), tiny_release(tmp_path, seed=2)
    promote(tmp_path, first)
    manager, pinned = opened(tmp_path), opened(tmp_path, first)
    before = manager.current
    assert not manager.refresh_release()
    promote(tmp_path, second)
    assert manager.refresh_release()
    assert manager.current.release_id == second
    assert before.release_id == first, "a batch that began with the old one ends with it"
    assert not pinned.refresh_release()
    assert pinned.current.release_id == first


def test_a_bad_release_leaves_the_old_one_serving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tiny_release(tmp_path), tiny_release(tmp_path, seed=2)
    promote(tmp_path, first)
    manager = opened(tmp_path)
    promote(tmp_path, second)
    codes = release_folder(tmp_path, second) / "codes" / "base-0000.safetensors"
    good = codes.read_bytes()
    codes.write_bytes(b"!" + good[1:])
    assert not manager.refresh_release()
    assert manager.current.release_id == first
    codes.write_bytes(good)
    assert not manager.refresh_release(), "it is not tried again at once"
    monkeypatch.setattr(refusals, "RETRY_S", 0.0)
    assert manager.refresh_release()
    assert manager.current.release_id == second


def test_a_schema_applied_later_is_found(tmp_path: Path) -> None:
    first = tiny_release(tmp_path)
    second = tiny_release(tmp_path, seed=2, schema_hash="new")
    promote(tmp_path, first)
    registry = [SCHEMA_HASH]
    manager = Manager(tmp_path, reader=lambda _: FakeReader(schema_hash=registry[0]))
    registry[0] = "new"  # `feast apply` of a later run
    promote(tmp_path, second)
    assert manager.refresh_release()
    assert manager.current.reader.schema_hash == "new"


def test_withdrawn_items_vanish(tmp_path: Path) -> None:
    promote(tmp_path, tiny_release(tmp_path))
    handler = Handler(tmp_path, manager=opened(tmp_path))

    def shown() -> set[str]:
        answer = handler.recommend([make_request("U5", k=60)])[0]
        assert isinstance(answer, Response)
        return set(answer.item_ids)

    before = shown()
    overlay = tmp_path / "overlay" / "withdrawn"
    overlay.parent.mkdir()
    overlay.write_text("I030\n\n I031 \nunknown\n")
    assert handler.manager.refresh_overlay()
    assert not handler.manager.refresh_overlay()
    assert shown() == before - {"I030", "I031"}
    promote(tmp_path, tiny_release(tmp_path, seed=2))
    assert handler.manager.refresh_release()
    assert not {"I030", "I031"} & shown(), "a new release must not bring them back"
    overlay.unlink()
    assert handler.manager.refresh_overlay()
    assert {"I030", "I031"} <= shown()


def test_the_list_of_withdrawn_items_is_utf8_whatever_the_locale(tmp_path: Path) -> None:
    """One bad line, or a separator that is no line's end within an id, lets no other item out."""
    (tmp_path / "overlay").mkdir()
    ids = ["Ü1", "a\u2028b", "I3"]
    (tmp_path / "overlay" / "withdrawn").write_bytes("\n".join(ids).encode() + b"\n\xff\xfe\nI4")
    code = (
        "import sys; from pathlib import Path; from tesserec.serving.overlay import Overlay; "
        "print(ascii(sorted(Overlay(Path(sys.argv[1])).read())))"
    )
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    out = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        env=os.environ | plain,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    assert {*ids, "I4"} <= set(ast.literal_eval(out))


def test_the_watcher_swaps_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager_module, "POINTER_S", 0.02)
    monkeypatch.setattr(manager_module, "OVERLAY_S", 0.02)
    first, second = tiny_release(tmp_path), tiny_release(tmp_path, seed=2)
    promote(tmp_path, first)
    manager = opened(tmp_path)
    manager.watch()
    (tmp_path / "promoted").write_text("not JSON")  # unreadable for a while: it looks again
    time.sleep(0.1)
    (tmp_path / "promoted").unlink()
    promote(tmp_path, second)
    (tmp_path / "overlay").mkdir()
    (tmp_path / "overlay" / "withdrawn").write_text("I001")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if manager.current.release_id == second and manager.current.withdrawn:
            break
        time.sleep(0.02)
    assert manager.current.release_id == second
    assert manager.current.withdrawn == {"I001"}
    manager.close()
    assert manager._threads and not any(thread.is_alive() for thread in manager._threads)


def test_items_vanish_also_while_a_release_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager_module, "POINTER_S", 0.02)
    monkeypatch.setattr(manager_module, "OVERLAY_S", 0.02)
    first, second = tiny_release(tmp_path), tiny_release(tmp_path, seed=2)
    promote(tmp_path, first)
    loading, go_on = threading.Event(), threading.Event()

    def slow(folder: Path, beside: Sequence[Any] = ()) -> object:
        if folder.name == second:
            loading.set()
            assert go_on.wait(20)
        return manager_module.load_recommender(folder, beside)

    manager = Manager(tmp_path, reader=lambda _: FakeReader(), load=slow)
    manager.watch()
    promote(tmp_path, second)
    assert loading.wait(20)
    (tmp_path / "overlay").mkdir()
    (tmp_path / "overlay" / "withdrawn").write_text("I001")
    wait_until(lambda: bool(manager.current.withdrawn))
    assert manager.current.release_id == first
    go_on.set()
    wait_until(lambda: manager.current.release_id == second)
    assert manager.current.withdrawn == {"I001"}
    manager.close()


def test_a_pointer_that_stays_unreadable_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(manager_module, "POINTER_S", 0.01)
    promote(tmp_path, tiny_release(tmp_path))
    manager = opened(tmp_path)
    (tmp_path / "promoted").write_text("not JSON")
    with caplog.at_level(logging.ERROR):
        manager.watch()
        time.sleep(0.3)
        manager.close()
    assert len(caplog.records) == 1


def test_an_unforeseen_fault_does_not_end_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager_module, "OVERLAY_S", 0.01)
    promote(tmp_path, tiny_release(tmp_path))
    manager = opened(tmp_path)
    real, faults = manager._overlay.read, iter([RuntimeError("once")])

    def read() -> frozenset[str] | None:
        for fault in faults:
            raise fault
        return real()

    monkeypatch.setattr(manager._overlay, "read", read)
    manager.watch()
    (tmp_path / "overlay").mkdir()
    (tmp_path / "overlay" / "withdrawn").write_text("I001")
    wait_until(lambda: manager.current.withdrawn == {"I001"})
    manager.close()


def test_each_release_opens_the_store_anew(tmp_path: Path) -> None:
    """Its run may have changed the store's settings, such as the length of histories."""
    first, second = tiny_release(tmp_path), tiny_release(tmp_path, seed=2)
    promote(tmp_path, first)
    manager = opened(tmp_path)
    before = manager.current.reader
    promote(tmp_path, second)
    assert manager.refresh_release()
    assert manager.current.reader is not before


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_patched_items_are_those_that_are_shown(tmp_path: Path) -> None:
    """A release that only hides an item shares its rows with the one before, not its facts."""
    import pyarrow as pa

    from tesserec.release.delta import Delta, build_delta
    from tesserec.release.manifest import read_release
    from tesserec.retokenization.stock import Stock

    first = tiny_release(tmp_path)
    promote(tmp_path, first)
    manager = opened(tmp_path)
    folder = release_folder(tmp_path, first)
    items = Stock(folder, read_release(folder)).items
    record = items.slice(5, 1).to_pylist()[0] | {"available": False}
    patch = pa.Table.from_pylist([record], schema=items.schema)
    patch = patch.append_column("row", pa.array([5]))
    second = build_delta(tmp_path, first, Delta(item_patch=patch), cadence="encode")
    assert manager.current.shown[5]
    promote(tmp_path, second)
    assert manager.refresh_release() and not manager.current.shown[5]
    former = manager.places.second
    assert former is not None and manager.current.shown.sum() == former.shown.sum() - 1
