"""The release manager: follows the pointer, and swaps one reference between batches.

At most two releases are in memory (`Places`): the serving one, and in the second place the next
one while it is loaded and rehearsed, a candidate that is tried, or for a while the former one. A
release that fails is never served; the old one goes on. At the start that is the newest one that
was promoted before it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tesserec.config import ChangeSettings
from tesserec.errors import ServingError
from tesserec.release.candidate import CANARY, SHADOW, withdraw_candidate, withdraw_promotion
from tesserec.release.pointer import promoted, read_pointer
from tesserec.serving.features import Reader, open_reader
from tesserec.serving.first import load_first
from tesserec.serving.heap import give_back
from tesserec.serving.judge import Judge, Tally
from tesserec.serving.loaded import Loaded, Loader, load_recommender
from tesserec.serving.meter import MemoryMeter, Meter
from tesserec.serving.overlay import Overlay
from tesserec.serving.places import FORMER, LOADING, SERVING, Places
from tesserec.serving.refusals import Refusals
from tesserec.serving.request import Request, Response, chars_of
from tesserec.serving.shadow import Job, Shadow
from tesserec.serving.status import write_status
from tesserec.serving.trial import rehearse_loaded

log = logging.getLogger(__name__)
POINTER_S = 1.0  # seconds between looks at the pointer
OVERLAY_S = 5.0
STATUS_S = 10.0  # between two reports of how a candidate does
RECENT = 256  # requests remembered for the rehearsal of the next release
RECENT_CHARS = 20_000  # of one; hostile ones would add up to hundreds of megabytes


class Manager:
    """Holds the releases that answer requests.

    Args:
        workdir: the working folder with `releases/`, `promoted`, `overlay/` and `feature_store/`.
        release: serve this release whatever the pointer says (rehearsal); None follows the pointer.
        reader: opens the feature store of a working folder.
        load: loads a recommender from a release's folder, beside those in memory.
        settings: the bands of a change.
        meter: where the numbers go; None keeps them in memory.
    """

    def __init__(
        self,
        workdir: Path,
        release: str | None = None,
        *,
        reader: Callable[[Path], Reader] = open_reader,
        load: Callable[..., Any] = load_recommender,
        settings: ChangeSettings | None = None,
        meter: Meter | None = None,
    ) -> None:
        self.workdir = workdir
        self.pinned = release
        self.settings = settings or ChangeSettings()
        self._meter = meter or MemoryMeter()
        self._loader = Loader(workdir, reader=reader, load=load)
        self._shadow = Shadow(self._meter)
        self.prepare: Callable[[Reader], None] = lambda _: None  # open a store for the requests
        self._recent: deque[Request] = deque(maxlen=RECENT)
        self._refusals = Refusals()
        self._loading: str | None = None
        self._behind: str | None = None  # promoted, but no good: another one answers
        self._roles: dict[str, str] = {}  # release -> role, as last told
        self._told_at = 0.0
        self._grace_until = 0.0
        # A withdrawal that the pointer file does not tell of yet.
        self._untold: Callable[[], bool] | None = None
        self._overlay = Overlay(workdir)
        self._stop = threading.Event()
        self._swap_lock = threading.Lock()  # held while `places` is made of the former ones
        self._threads: list[threading.Thread] = []
        wanted = release or promoted(workdir)
        if wanted is None:
            raise ServingError(f"no release is promoted in {workdir}; run the pipeline first")
        if release:
            first, problem = self._first(release), None
        else:
            first, problem = load_first(workdir, wanted, self._first)
        self.places = Places(first)
        self.refresh_overlay()
        if problem is not None:
            stamp = str((self._pointer() or {}).get("promoted_at", ""))
            self._refuse(wanted, stamp, problem)
            self._behind = wanted
        self._tell()

    def _first(self, release_id: str) -> Loaded:
        """Loaded and rehearsed, without any other beside it."""
        loaded = self._loader.load(release_id)
        withdrawn = Overlay(self.workdir).read() or frozenset()
        rehearse_loaded(loaded.withdraw(withdrawn), None, (), self.settings.latency_ratio)
        return loaded

    @property
    def current(self) -> Loaded:
        """The serving release."""
        return self.places.serving

    # ---- what requests have to do with it ----

    def saw(
        self,
        places: Places,
        loaded: Loaded,
        requests: Sequence[Any],
        found: Mapping[str, Any],
        answers: Sequence[Any],
        seconds: float,
    ) -> None:
        """Be told of a batch that `loaded`, one of `places`, has answered; never waits.

        Args:
            found: what the feature store told of its users.
            seconds: of the processor, in the thread that answered.
        """
        loaded.tally.count(answers, seconds)
        self._recent.extend(
            r for r in requests if isinstance(r, Request) and chars_of(r) <= RECENT_CHARS
        )
        judge, other = places.judge, places.second
        if judge is None or other is None:
            return
        if places.role == CANARY:
            if loaded is places.serving:
                return
            other = places.serving  # what the users of the canary would have got
        elif places.role == FORMER and judge.comparisons >= self.settings.requests:
            return
        pairs = [
            (request, given)
            for request, given in zip(requests, answers, strict=True)
            if isinstance(given, Response) and places.compares(request)
        ]
        if pairs:
            asked, served = zip(*pairs, strict=True)
            self._shadow.offer(Job(other, asked, found, served, judge, places.role == SHADOW))

    # ---- following ----

    def watch(self) -> None:
        """Follow the pointer and the overlay in the background until `close`.

        In a thread each: items must vanish in time also while a release is being loaded.
        """
        for look, every_s in ((self.refresh_release, POINTER_S), (self.refresh_overlay, OVERLAY_S)):
            thread = threading.Thread(
                target=self._follow, args=(look, every_s), name=look.__name__, daemon=True
            )
            self._threads.append(thread)
            thread.start()
        self._tell()

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=5)
        self._shadow.close()

    def refresh_release(self) -> bool:
        """Do what bands and pointer say; true if another release serves now.

        Raises:
            OSError: the pointer file could not be read, or a withdrawal not be written there.
        """
        before = self.current.release_id
        self._judge()
        pointer = self._pointer()
        if pointer is not None:
            self._follow_promotion(pointer)
            if self.current.release_id == pointer["release_id"]:
                self._follow_candidate(pointer)
            self._look_behind(pointer)
        if self.places.second is not None and time.monotonic() - self._told_at > STATUS_S:
            self._tell()
        if self._untold is not None:  # last, so that a full disk keeps from nothing else
            self._untold()
            self._untold = None
        return self.current.release_id != before

    def refresh_overlay(self) -> bool:
        """Read `<workdir>/overlay/withdrawn` if it changed; true if its items changed."""
        items = self._overlay.read()
        if items is None:
            return False
        with self._swap_lock:
            if items == self.current.withdrawn:
                return False
            self.places = self.places.withdraw(items)
        unknown = sum(item not in self.current.catalogue.row_of for item in items)
        log.warning("%d items are withdrawn, %d of them unknown here", len(items), unknown)
        return True

    def _follow(self, look: Callable[[], bool], every_s: float) -> None:
        said = ""
        while not self._stop.wait(every_s):
            try:
                look()
                said = ""
            except Exception as error:  # whatever it is: items must vanish tomorrow too
                if repr(error) != said:  # once, not every second
                    said = repr(error)
                    log.exception("%s of %s failed", look.__name__, self.workdir)

    def _pointer(self) -> dict[str, Any] | None:
        if self.pinned:
            return {"release_id": self.pinned, "promoted_at": "", "candidate": None}
        return read_pointer(self.workdir)

    def _follow_promotion(self, pointer: Mapping[str, Any]) -> None:
        wanted, stamp = pointer["release_id"], str(pointer.get("promoted_at", ""))
        if wanted == self.current.release_id or self._refusals.hold(wanted, stamp):
            return
        loaded = self._bring(wanted, stamp)
        if loaded is None or self._moved(pointer):
            return
        loaded = replace(loaded, tally=Tally())
        places = Places(loaded)
        if pointer.get("previous") == self.current.release_id and self.settings.grace_s:
            judge = Judge(self.settings, loaded.tally, self.current.tally)
            places = Places(loaded, self.current, FORMER, 1.0, stamp, judge)
            self._grace_until = time.monotonic() + self.settings.grace_s
        self._swap(places, "serving")
        log.info("serving release %s", wanted)

    def _look_behind(self, pointer: Mapping[str, Any]) -> None:
        wanted, stamp = pointer["release_id"], str(pointer.get("promoted_at", ""))
        refused = wanted != self.current.release_id and self._refusals.knows(wanted, stamp)
        behind = wanted if refused else None
        if behind != self._behind:
            self._behind = behind
            self._tell()

    def _follow_candidate(self, pointer: Mapping[str, Any]) -> None:
        wanted = pointer["candidate"]
        if wanted is None:
            over = self.places.role == FORMER and time.monotonic() > self._grace_until
            if self.places.candidate is not None or over:
                self._swap(self.places.alone(), "settled" if over else "cancelled")
            return
        release_id, role, since = wanted["release_id"], wanted["mode"], wanted["since"]
        if self.places.candidate is not None and self.places.since == since:
            if self.places.share != wanted["share"]:
                self._swap(replace(self.places, share=wanted["share"]), "tried")
            return
        if self._refusals.hold(release_id, since):
            return
        loaded = self._bring(release_id, since)
        if loaded is None or self._moved(pointer):
            return
        loaded = replace(loaded, tally=Tally())
        judge = Judge(self.settings, loaded.tally, self.current.tally)
        self._swap(Places(self.current, loaded, role, wanted["share"], since, judge), "tried")
        log.info("trying release %s as %s", release_id, role)

    def _bring(self, release_id: str, stamp: str) -> Loaded | None:
        """The release, ready to answer; None if it is no good."""
        second = self.places.second
        if second is not None and second.release_id == release_id:
            return second
        del second
        if self.places.second is not None:
            self._swap(self.places.alone(), "settled")  # never three in memory
        self._loading = release_id
        self._tell()
        try:
            loaded = self._loader.load(release_id, [self.current])
            loaded = loaded.withdraw(self.current.withdrawn)
            recent = list(self._recent)
            rehearse_loaded(loaded, self.current, recent, self.settings.latency_ratio)
            self.prepare(loaded.reader)
        except Exception as error:  # whatever is wrong with the new one, the old one goes on
            log.exception(
                "release %s isn't served; %s goes on", release_id, self.current.release_id
            )
            self._refuse(release_id, stamp, str(error) or type(error).__name__)
            return None
        finally:
            self._loading = None
            self._tell()
        self._refusals.settle(release_id)
        return loaded

    def _refuse(self, release_id: str, stamp: str, reason: str) -> None:
        self._refusals.add(release_id, stamp, reason)
        self._meter.add("tesserec_release_changes_total", outcome="refused")

    def _moved(self, pointer: Mapping[str, Any]) -> bool:
        """Whether the pointer says something else since it was read; then look again first."""
        return self._pointer() != pointer

    # ---- going back ----

    def _judge(self) -> None:
        """Withdraw the newer release if it left its bands: here at once; the pointer comes last."""
        places = self.places
        problem = places.judge.problem() if places.judge else None
        if problem is None or places.second is None:
            return
        name = f"process {os.getpid()} of {os.uname().nodename}"
        bad: Loaded = places.second
        former: Loaded | None = None
        if places.role == FORMER:
            bad, former = places.serving, places.second
        self._refusals.add(bad.release_id, places.since, problem, final=True)
        self._swap(Places(former or places.serving), "withdrawn")
        log.warning("release %s is withdrawn: %s", bad.release_id, problem)
        if former is not None:
            ids = bad.release_id, former.release_id
            self._untold = partial(withdraw_promotion, self.workdir, *ids, problem, by=name)
        else:
            self._untold = partial(withdraw_candidate, self.workdir, places.since, problem, by=name)

    # ---- the one reference ----

    def _swap(self, places: Places, outcome: str) -> None:
        fewer = self.places.second is not None
        with self._swap_lock:
            withdrawn = self.current.withdrawn
            if any(one and one.withdrawn != withdrawn for one in (places.serving, places.second)):
                places = places.withdraw(withdrawn)
            self.places = places
        del places
        self._meter.add("tesserec_release_changes_total", outcome=outcome)
        self._tell()
        if fewer:
            self._shadow.clear()
            give_back()

    def _tell(self) -> None:
        """Metrics and, of a server that follows the pointer, `status.json`."""
        places = self.places
        roles = {self._loading: LOADING} if self._loading else {}
        if places.second is not None:
            roles[places.second.release_id] = places.role
        roles[places.serving.release_id] = SERVING
        for release_id, role in self._roles.items() - roles.items():
            self._meter.set("tesserec_release", 0, release_id=release_id, role=role)
        for release_id, role in roles.items():
            self._meter.set("tesserec_release", 1, release_id=release_id, role=role)
        self._meter.set("tesserec_fallback", float(self._behind is not None))
        self._roles, self._told_at = roles, time.monotonic()
        if self._threads and not self.pinned:
            told = places.told() | {"instead_of": self._behind, "loading": self._loading}
            told["refused"] = self._refusals.rows()
            try:
                write_status(self.workdir, told)
            except OSError:  # a full disk is no reason not to serve
                log.exception("%s has no new status", self.workdir)
