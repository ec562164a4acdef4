"""A new release beside the old one: tried, judged, withdrawn, and never three in memory."""

from __future__ import annotations

import gc
import json
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tesserec.artifacts import sha256_of, write_manifest
from tesserec.config import ChangeSettings, ServeSettings
from tesserec.errors import RequestError, ServingError
from tesserec.release import (
    CANARY,
    SHADOW,
    promote,
    promoted,
    read_pointer,
    release_folder,
    rollback,
    try_release,
)
from tesserec.release import candidate as candidate_module
from tesserec.release.manifest import parts_of, release_id_of
from tesserec.serving import manager as manager_module
from tesserec.serving.handler import Handler
from tesserec.serving.judge import Judge, Tally
from tesserec.serving.loaded import load_recommender
from tesserec.serving.manager import Manager
from tesserec.serving.meter import MemoryMeter
from tesserec.serving.request import Response, make_request
from tesserec.serving.server_file import write_server_file
from tesserec.serving.shadow import Shadow
from tesserec.serving.status import server_status
from tests.fakes.release import FakeReader, item_id, tiny_release

USERS = [f"U{n}" for n in range(190)]
QUICK = ChangeSettings(requests=20, agreement=0.0)


class Sick:
    """A recommender that is well while it is rehearsed, and falls ill on demand."""

    def __init__(self, inner: Any, ill: dict[str, Any]) -> None:
        self._inner, self._ill = inner, ill

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def rank(self, *arguments: Any, **named: Any) -> Any:
        if self._ill.get("fails"):
            raise RuntimeError("ill")
        end = time.thread_time() + self._ill.get("seconds", 0)
        while time.thread_time() < end:
            pass
        ids, scores = self._inner.rank(*arguments, **named)
        if self._ill.get("unknown"):
            ids = [["nobody's item", *one[1:]] for one in ids]
        return ids, [s * np.nan for s in scores] if self._ill.get("nan") else scores


def serving(
    workdir: Path,
    settings: ChangeSettings = QUICK,
    *,
    ill: tuple[str, dict[str, Any]] | None = None,
) -> Handler:
    """A handler over the promoted release; release `ill[0]` does as `ill[1]` says."""

    def load(folder: Path, beside: Sequence[Any] = ()) -> Any:
        inside = [getattr(one, "_inner", one) for one in beside]
        made = load_recommender(folder, inside)
        return Sick(made, ill[1]) if ill and folder.name == ill[0] else made

    meter = MemoryMeter()
    manager = Manager(
        workdir, reader=lambda _: FakeReader(), load=load, settings=settings, meter=meter
    )
    return Handler(workdir, manager=manager, meter=meter, settings=ServeSettings(change=settings))


def ask(handler: Handler, users: Sequence[str] = USERS) -> dict[str, str]:
    """User -> the release that answered."""
    answers = handler.recommend([make_request(user, k=5) for user in users])
    assert all(isinstance(one, Response) for one in answers)
    return {
        user: one.release_id
        for user, one in zip(users, answers, strict=True)
        if isinstance(one, Response)
    }


def counts(handler: Handler) -> Any:
    assert isinstance(handler.meter, MemoryMeter)
    return handler.meter.values


def wait(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def two(tmp_path: Path) -> tuple[str, str]:
    first, second = tiny_release(tmp_path), tiny_release(tmp_path, seed=2)
    promote(tmp_path, first)
    return first, second


def test_a_canary_answers_its_share_of_the_users(tmp_path: Path, two: tuple[str, str]) -> None:
    first, second = two
    handler = serving(tmp_path)
    try_release(tmp_path, second, mode=CANARY, share=0.3)
    assert not handler.manager.refresh_release()
    one = ask(handler)
    theirs = {user for user, release in one.items() if release == second}
    assert 0.15 < len(theirs) / len(USERS) < 0.45 and set(one.values()) == {first, second}
    for user in USERS:  # alone as in a batch, and again the same
        assert ask(handler, [user])[user] == one[user]
    try_release(tmp_path, second, mode=CANARY, share=0.6)
    handler.manager.refresh_release()
    more = {user for user, release in ask(handler).items() if release == second}
    assert theirs < more
    answers = handler.recommend([make_request(history=[item_id(n)]) for n in range(50)])
    assert {one.release_id for one in answers if isinstance(one, Response)} == {first, second}
    assert rollback(tmp_path)["candidate"] is None
    handler.manager.refresh_release()
    assert set(ask(handler).values()) == {first} and handler.manager.places.second is None
    handler.close()


def test_each_answers_as_it_does_alone(tmp_path: Path, two: tuple[str, str]) -> None:
    requests = [make_request(user, k=7) for user in USERS]
    alone = {}
    for release in two:
        pinned = Handler(
            tmp_path, manager=Manager(tmp_path, release, reader=lambda _: FakeReader())
        )
        alone[release] = pinned.recommend(requests)
    handler = serving(tmp_path)
    try_release(tmp_path, two[1], mode=CANARY, share=0.5)
    handler.manager.refresh_release()
    for place, given in enumerate(handler.recommend(requests)):
        assert isinstance(given, Response)
        expected = alone[given.release_id][place]
        assert isinstance(expected, Response)
        assert given.item_ids == expected.item_ids
        np.testing.assert_allclose(given.scores, expected.scores, rtol=1e-4)
    handler.close()


def test_a_completed_canary_is_not_loaded_again(
    tmp_path: Path, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two
    handler = serving(tmp_path)
    try_release(tmp_path, second, mode=CANARY, share=0.3)
    handler.manager.refresh_release()
    tried = handler.manager.places.second
    assert tried, handler.manager._refusals.rows()
    monkeypatch.setattr(handler.manager._loader, "load", None)
    promote(tmp_path, second)
    assert handler.manager.refresh_release()
    places = handler.manager.places
    assert tried and places.serving.recommender is tried.recommender
    assert places.role == "former" and places.second and places.second.release_id == first
    rollback(tmp_path)  # and back, still without loading
    assert handler.manager.refresh_release()
    assert handler.manager.current.release_id == first and handler.manager.places.second is None


def test_a_shadow_answers_unseen(tmp_path: Path, two: tuple[str, str]) -> None:
    first, second = two
    handler = serving(tmp_path)
    try_release(tmp_path, second, mode=SHADOW, share=1.0)
    handler.manager.refresh_release()
    assert set(ask(handler).values()) == {first}
    judge = handler.manager.places.judge
    assert judge
    wait(lambda: judge.comparisons == len(USERS))
    figures = judge.figures()
    assert figures["requests"] == len(USERS) and 0 < (figures["agreement"] or 0) < 1
    counted = counts(handler)
    assert counted["tesserec_shadow_total", "different"] > 0
    handler.close()


def test_more_than_a_shadow_can_do_is_dropped_and_counted(
    tmp_path: Path, two: tuple[str, str]
) -> None:
    handler = serving(tmp_path, ill=(two[1], (ill := {})))
    try_release(tmp_path, two[1], mode=SHADOW, share=1.0)
    handler.manager.refresh_release()
    ill["seconds"] = 0.2
    for _ in range(100):
        ask(handler, USERS[:2])
    counted = counts(handler)
    assert counted["tesserec_shadow_total", "dropped"] > 20
    handler.close()


@pytest.mark.parametrize(
    ("illness", "reason"),
    [({"fails": True}, "failed"), ({"seconds": 0.03}, "p95 is")],
)
def test_a_canary_that_leaves_its_bands_is_withdrawn(
    tmp_path: Path, two: tuple[str, str], illness: dict[str, Any], reason: str
) -> None:
    first, second = two
    ill: dict[str, Any] = {}
    handler = serving(tmp_path, ill=(second, ill))
    try_release(tmp_path, second, mode=CANARY, share=0.5)
    handler.manager.refresh_release()
    theirs = [user for user, release in ask(handler).items() if release == second]
    handler.manager.refresh_release()
    assert handler.manager.places.candidate, "it is well so far"
    ill |= illness
    others = [user for user in USERS if user not in theirs]
    for user in [*theirs, *theirs][:60]:
        handler.recommend([make_request(user)])
        handler.recommend([make_request(others[0])])
    handler.manager.refresh_release()
    assert set(ask(handler).values()) == {first} and handler.manager.places.second is None
    pointer = read_pointer(tmp_path) or {}
    assert pointer["candidate"] is None and pointer["release_id"] == first
    assert pointer["withdrawn"]["release_id"] == second
    assert reason in pointer["withdrawn"]["reason"]
    handler.manager.refresh_release()
    assert handler.manager.places.second is None
    ill.clear()
    try_release(tmp_path, second, mode=CANARY, share=0.5)  # named anew, it is tried anew
    handler.manager.refresh_release()
    assert handler.manager.places.candidate
    handler.close()


def test_too_few_requests_say_nothing(tmp_path: Path, two: tuple[str, str]) -> None:
    ill: dict[str, Any] = {}
    handler = serving(tmp_path, ChangeSettings(requests=10_000), ill=(two[1], ill))
    try_release(tmp_path, two[1], mode=CANARY, share=1.0)
    handler.manager.refresh_release()
    ill["fails"] = True
    handler.recommend([make_request(user) for user in USERS])
    handler.manager.refresh_release()
    assert handler.manager.places.candidate
    handler.close()


def test_another_taste_is_withdrawn(tmp_path: Path, two: tuple[str, str]) -> None:
    settings = ChangeSettings(requests=20, agreement=0.9)
    handler = serving(tmp_path, settings)
    try_release(tmp_path, two[1], mode=SHADOW, share=1.0)
    handler.manager.refresh_release()
    ask(handler)
    judge = handler.manager.places.judge
    assert judge
    wait(lambda: judge.comparisons > 20)
    handler.manager.refresh_release()
    assert handler.manager.places.second is None
    assert (
        "of its items are those of the other release"
        in ((read_pointer(tmp_path) or {})["withdrawn"]["reason"])
    )
    handler.close()


def test_a_promoted_release_that_fails_is_taken_back(tmp_path: Path, two: tuple[str, str]) -> None:
    first, second = two
    ill: dict[str, Any] = {}
    handler = serving(tmp_path, ill=(second, ill))
    ask(handler)
    promote(tmp_path, second)
    assert handler.manager.refresh_release()
    ill["fails"] = True
    handler.recommend([make_request(user) for user in USERS])
    assert handler.manager.refresh_release()
    assert set(ask(handler).values()) == {first}
    assert promoted(tmp_path) == first and handler.manager.places.second is None
    assert (read_pointer(tmp_path) or {})["withdrawn"]["role"] == "promoted"
    handler.close()


def test_a_pointer_that_moved_on_is_left_alone(tmp_path: Path, two: tuple[str, str]) -> None:
    """Here the release is taken back, but another one was promoted meanwhile: that one comes."""
    _, second = two
    third = tiny_release(tmp_path, seed=3)
    ill: dict[str, Any] = {}
    handler = serving(tmp_path, ill=(second, ill))
    promote(tmp_path, second)
    handler.manager.refresh_release()
    ill["fails"] = True
    handler.recommend([make_request(user) for user in USERS])
    promote(tmp_path, third)
    handler.manager.refresh_release()
    assert promoted(tmp_path) == third and set(ask(handler).values()) == {third}
    handler.close()


def test_the_former_release_goes_when_the_grace_is_over(
    tmp_path: Path, two: tuple[str, str]
) -> None:
    handler = serving(tmp_path, ChangeSettings(grace_s=0.05))
    promote(tmp_path, two[1])
    handler.manager.refresh_release()
    assert handler.manager.places.role == "former"
    time.sleep(0.1)
    handler.manager.refresh_release()
    assert handler.manager.places.second is None
    assert serving(tmp_path, ChangeSettings(grace_s=0)).manager.places.second is None


def test_never_three_in_memory(tmp_path: Path, two: tuple[str, str]) -> None:
    first, second = two
    third = tiny_release(tmp_path, seed=3)
    alive: list[weakref.ref[Any]] = []

    def load(folder: Path, beside: Sequence[Any] = ()) -> Any:
        made = load_recommender(folder, beside)
        gc.collect()
        assert sum(one() is not None for one in alive) <= 1, "a third one is loaded"
        alive.append(weakref.ref(made))
        return made

    handler = Handler(tmp_path, manager=Manager(tmp_path, reader=lambda _: FakeReader(), load=load))
    manager = handler.manager
    try_release(tmp_path, second, mode=SHADOW, share=1.0)
    manager.refresh_release()
    ask(handler)
    try_release(tmp_path, third, mode=CANARY, share=0.5)
    manager.refresh_release()
    assert manager.places.candidate and manager.places.candidate.release_id == third
    promote(tmp_path, second)
    assert manager.refresh_release()
    promote(tmp_path, third)
    assert manager.refresh_release()
    promote(tmp_path, first)
    assert manager.refresh_release()
    handler.close()
    assert len(alive) == 6
    assert sum(one() is not None for one in alive) == 2


@pytest.mark.slow
def test_memory_stays_flat_over_twenty_changes(tmp_path: Path, two: tuple[str, str]) -> None:
    """Each release carries 16 MiB that nothing else refers to: one left behind would show."""
    ballast = 16 * 2**20

    def load(folder: Path, beside: Sequence[Any] = ()) -> Any:
        made = load_recommender(folder, [getattr(one, "_inner", one) for one in beside])
        return Sick(made, {"ballast": np.ones(ballast, np.uint8)})

    handler = Handler(tmp_path, manager=Manager(tmp_path, reader=lambda _: FakeReader(), load=load))
    sizes = []
    for turn in range(20):
        promote(tmp_path, two[(turn + 1) % 2])
        promote(tmp_path, two[turn % 2])
        rollback(tmp_path)
        assert handler.manager.refresh_release()
        handler.manager._grace_until = 0.0  # over: the next one is loaded anew
        handler.manager.refresh_release()
        ask(handler)
        sizes.append(_resident())
    assert max(sizes[10:]) - sizes[4] < 1.5 * ballast, sizes
    handler.close()


def test_a_model_of_nonsense_never_serves(tmp_path: Path, two: tuple[str, str]) -> None:
    first, _ = two
    third = tiny_release(tmp_path, seed=3)
    sick = _of_nan(tmp_path, third)
    for name in (lambda: promote(tmp_path, sick), lambda: _candidate(tmp_path, sick)):
        handler = serving(tmp_path)
        name()
        assert not handler.manager.refresh_release()
        assert set(ask(handler).values()) == {first}
        refused = handler.manager._refusals.rows()
        assert [row["release_id"] for row in refused] == [sick]
        assert "not finite" in refused[0]["reason"]
        handler.close()
        rollback(tmp_path)
    promote(tmp_path, sick)
    handler = serving(tmp_path)  # a start with it: the one before answers instead
    assert set(ask(handler).values()) == {first}
    handler.close()


@pytest.mark.parametrize("illness", [{"unknown": True}, {"fails": True}, {"nan": True}])
def test_bad_answers_are_found_in_the_rehearsal(
    tmp_path: Path, two: tuple[str, str], illness: dict[str, Any]
) -> None:
    first, second = two
    handler = serving(tmp_path, ill=(second, illness))
    promote(tmp_path, second)
    assert not handler.manager.refresh_release()
    assert set(ask(handler).values()) == {first}


def test_a_release_that_is_too_slow_never_serves(tmp_path: Path, two: tuple[str, str]) -> None:
    first, second = two
    handler = serving(tmp_path, ill=(second, {"seconds": 0.03}))
    promote(tmp_path, second)
    assert not handler.manager.refresh_release()
    assert set(ask(handler).values()) == {first}
    assert "a request takes" in handler.manager._refusals.rows()[0]["reason"]


def test_real_requests_are_rehearsed(tmp_path: Path, two: tuple[str, str]) -> None:
    first, second = two

    class Picky(Sick):
        def state(self, histories: Any, *arguments: Any, **named: Any) -> Any:
            if any(item_id(33) in history for history in histories if len(history) == 1):
                raise RuntimeError("not this one")
            return self._inner.state(histories, *arguments, **named)

    def load(folder: Path, beside: Sequence[Any] = ()) -> Any:
        made = load_recommender(folder, [])
        return Picky(made, {}) if folder.name == second else made

    handler = Handler(tmp_path, manager=Manager(tmp_path, reader=lambda _: FakeReader(), load=load))
    handler.recommend([make_request(history=[item_id(33)])])
    handler.recommend([make_request("U5", rules='{"allow": ["brand:none"]}')])  # itself bad
    promote(tmp_path, second)
    assert not handler.manager.refresh_release()
    assert set(ask(handler).values()) == {first}
    assert "history of 1 items" in handler.manager._refusals.rows()[0]["reason"]


def test_large_requests_are_not_remembered(tmp_path: Path, two: tuple[str, str]) -> None:
    del two
    handler = serving(tmp_path)
    large = make_request("U1", rules=json.dumps({"deny": ["x" * 30_000]}))
    assert isinstance(handler.recommend([large])[0], Response)
    handler.recommend([make_request("U2")])
    assert [one.user_id for one in handler.manager._recent] == ["U2"]


def test_bad_requests_do_not_hide_failures() -> None:
    newer, older = Tally(), Tally()
    judge = Judge(QUICK, newer, older)
    newer.count([RequestError("bad")] * 10_000, 0.001)
    assert judge.problem() is None
    newer.count([ServingError("fails")] * 20, 0.001)
    assert "20 of 20 requests failed" in (judge.problem() or "")


def test_what_is_in_work_lets_go_of_its_releases_first(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def compare(*_: Any) -> None:
        begun.set()
        go_on.wait(20)

    monkeypatch.setattr(Shadow, "_compare", compare)
    shadow, job = Shadow(MemoryMeter()), cast(Any, SimpleNamespace(chars=0))
    shadow.offer(job)
    assert begun.wait(20)
    shadow.offer(job)
    cleared = threading.Thread(target=shadow.clear)
    cleared.start()
    cleared.join(0.2)
    assert cleared.is_alive() and shadow._jobs.empty()
    go_on.set()
    cleared.join(20)
    assert not cleared.is_alive()
    shadow.close()


def test_items_vanish_in_both_places(tmp_path: Path, two: tuple[str, str]) -> None:
    handler = serving(tmp_path)
    try_release(tmp_path, two[1], mode=CANARY, share=0.5)
    handler.manager.refresh_release()
    gone = {item_id(row) for row in range(30)}
    (tmp_path / "overlay").mkdir()
    (tmp_path / "overlay" / "withdrawn").write_text("\n".join(gone))
    assert handler.manager.refresh_overlay()
    answers = handler.recommend([make_request(user, k=60) for user in USERS])
    assert {a.release_id for a in answers if isinstance(a, Response)} == set(two)
    assert not gone & {i for a in answers if isinstance(a, Response) for i in a.item_ids}
    promote(tmp_path, two[1])
    handler.manager.refresh_release()
    rollback(tmp_path)
    handler.manager.refresh_release()
    answers = handler.recommend([make_request(user, k=60) for user in USERS])
    assert not gone & {i for a in answers if isinstance(a, Response) for i in a.item_ids}
    handler.close()


def test_a_move_while_loading_is_followed(tmp_path: Path, two: tuple[str, str]) -> None:
    """The operator goes back before the release was loaded: it never serves."""
    first, second = two

    def load(folder: Path, beside: Sequence[Any] = ()) -> Any:
        if folder.name == second:
            rollback(tmp_path)
        return load_recommender(folder, beside)

    manager = Manager(tmp_path, reader=lambda _: FakeReader(), load=load)
    promote(tmp_path, second)
    assert not manager.refresh_release() and manager.places.second is None
    assert not manager.refresh_release() and manager.current.release_id == first


def test_a_pointer_that_cannot_be_written_does_not_hold_up_the_way_back(
    tmp_path: Path, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two
    ill: dict[str, Any] = {}
    handler = serving(tmp_path, ill=(second, ill))
    promote(tmp_path, second)
    handler.manager.refresh_release()
    ill["fails"] = True
    handler.recommend([make_request(user) for user in USERS])

    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as broken:
        broken.setattr(candidate_module, "write_pointer", full)
        for _ in range(2):
            with pytest.raises(OSError, match="no space"):
                handler.manager.refresh_release()
            assert promoted(tmp_path) == second and set(ask(handler).values()) == {first}
    assert not handler.manager.refresh_release()
    assert promoted(tmp_path) == first, "told as soon as there is room"
    assert (read_pointer(tmp_path) or {})["withdrawn"]["release_id"] == second


def test_operators_see_what_a_server_holds(
    tmp_path: Path, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two
    monkeypatch.setattr(manager_module, "POINTER_S", 0.02)
    handler = serving(tmp_path)
    handler.manager.watch()
    info = {"pid": os.getppid(), "grpc": "", "http": "", "metrics": "", "release_id": first}
    write_server_file(tmp_path, info)
    monkeypatch.setattr("tesserec.serving.server_file.alive", lambda pid: pid == os.getppid())
    status = server_status(tmp_path) or {}
    assert status["serving"] == first and status["second"] is None and status["refused"] == []
    try_release(tmp_path, second, mode=CANARY, share=0.25)
    wait(lambda: bool((server_status(tmp_path) or {})["second"]))
    told = (server_status(tmp_path) or {})["second"]
    assert told["release_id"] == second and told["role"] == CANARY and told["share"] == 0.25
    counted = counts(handler)
    assert counted["tesserec_release", first, "serving"] == 1
    assert counted["tesserec_release", second, CANARY] == 1
    rollback(tmp_path)
    wait(lambda: not (server_status(tmp_path) or {})["second"])
    assert counted["tesserec_release", second, CANARY] == 0
    assert counted["tesserec_release_changes_total", "cancelled"] == 1
    handler.close()


def _resident() -> int:
    """Bytes in memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _candidate(workdir: Path, release: str) -> None:
    try_release(workdir, release, mode=CANARY, share=1.0)


def _of_nan(workdir: Path, release: str) -> str:
    """A sound release whose weights are no numbers."""
    folder = release_folder(workdir, release)
    path = folder / "models" / "rpg" / "model.safetensors"
    save_file({name: np.full_like(v, np.nan) for name, v in load_file(path).items()}, path)
    manifest = json.loads((folder / "manifest.json").read_text())
    for entry in manifest["parts"]["models"]["rpg"]:
        entry["sha256"] = sha256_of(folder / entry["path"])
    parts = manifest["parts"]
    typed: dict[str, Any] = {
        name: parts_of(value) for name, value in parts.items() if name != "models"
    }
    typed["models"] = {name: parts_of(value) for name, value in parts["models"].items()}
    new = release_id_of(typed, manifest["feature_service"], manifest["feature_schema_hash"])
    text = json.dumps(manifest).replace(release, new)
    (folder / "manifest.json").unlink()
    fields = {k: v for k, v in json.loads(text).items() if k not in ("files", "content_hash")}
    write_manifest(folder, fields)
    folder.rename(folder.with_name(new))
    return new


def test_what_waits_for_a_second_answer_is_bounded_by_its_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entered, go, compared = threading.Event(), threading.Event(), []

    def compare(_: Shadow, job: Any) -> None:
        entered.set()
        assert go.wait(20)
        compared.append(job.name)

    monkeypatch.setattr(Shadow, "_compare", compare)
    monkeypatch.setattr("tesserec.serving.shadow.REST_S", 0.0)
    monkeypatch.setattr("tesserec.serving.shadow.WAITING_CHARS", 1000)
    meter = MemoryMeter()
    shadow = Shadow(meter)

    def offer(name: str, chars: int) -> None:
        shadow.offer(cast(Any, SimpleNamespace(name=name, chars=chars, requests=[0] * 3)))

    offer("in work", 5000)  # one alone always fits
    assert entered.wait(20)
    offer("first", 600)
    offer("too long", 600)
    offer("second", 300)
    assert meter.values["tesserec_shadow_total", "dropped"] == 3
    go.set()
    deadline = time.monotonic() + 20
    while len(compared) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    offer("long again", 900)
    while len(compared) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    shadow.close()
    assert compared == ["in work", "first", "second", "long again"]
