"""The release manager: loads the promoted release, follows the pointer, swaps one reference.

At most two releases are in memory: the serving one and, while it is loaded and checked, the next.
A release that fails its checks is never served; the former one goes on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tesserec.decoders.constraints import Constraints
from tesserec.errors import ServingError, TesserecError
from tesserec.release.manifest import read_release, release_folder
from tesserec.release.pointer import promoted
from tesserec.release.verify import require_sound
from tesserec.serving.catalogue import Catalogue
from tesserec.serving.features import Reader, open_reader
from tesserec.serving.loaded import Loaded

log = logging.getLogger(__name__)
POINTER_S = 1.0  # seconds between looks at the pointer
OVERLAY_S = 5.0
RETRY_S = 30.0  # a release that failed its checks is tried again after this time


def load_recommender(folder: Path) -> Any:
    """The release's recommender; imports torch."""
    from tesserec.recommender import Recommender

    return Recommender.load(folder)


class Manager:
    """Holds the release that answers requests.

    Args:
        workdir: the working folder with `releases/`, `promoted`, `overlay/` and `feature_store/`.
        release: serve this release whatever the pointer says (rehearsal); None follows the pointer.
        reader: opens the feature store of a working folder.
        load: loads a recommender from a release's folder.
    """

    def __init__(
        self,
        workdir: Path,
        release: str | None = None,
        *,
        reader: Callable[[Path], Reader] = open_reader,
        load: Callable[[Path], Any] = load_recommender,
    ) -> None:
        self.workdir = workdir
        self.pinned = release
        self._open_reader = reader
        self._load_recommender = load
        self._refused: str | None = None  # the release that failed its checks
        self._refused_at = 0.0
        self._overlay_stamp: tuple[int, ...] | None = None
        self._stop = threading.Event()
        self._swap = threading.Lock()  # held while `current` is made of the former one
        self._threads: list[threading.Thread] = []
        wanted = release or promoted(workdir)
        if wanted is None:
            raise ServingError(f"no release is promoted in {workdir}; run the pipeline first")
        self.current: Loaded = self._load(wanted)
        self.refresh_overlay()

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

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=5)

    def refresh_release(self) -> bool:
        """Load the promoted release if it is another one; true if it now serves."""
        wanted = self.pinned or promoted(self.workdir)
        if wanted is None or wanted == self.current.release_id:
            self._refused = None
            return False
        if self._refused == wanted and time.monotonic() - self._refused_at < RETRY_S:
            return False
        try:
            loaded = self._load(wanted)
        except Exception:  # whatever is wrong with the new one, the old one goes on
            self._refused, self._refused_at = wanted, time.monotonic()
            log.exception("release %s isn't served; %s goes on", wanted, self.current.release_id)
            return False
        with self._swap:
            self.current = loaded.withdraw(self.current.withdrawn)
        self._refused = None
        log.info("serving release %s", wanted)
        return True

    def refresh_overlay(self) -> bool:
        """Read `<workdir>/overlay/withdrawn` if it changed; true if its items changed."""
        path = self.workdir / "overlay" / "withdrawn"
        try:
            stat = path.stat()
            stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            text = path.read_text() if stamp != self._overlay_stamp else None
        except FileNotFoundError:
            stamp, text = (), "" if self._overlay_stamp != () else None
        if text is None:
            return False
        items = frozenset(line.strip() for line in text.splitlines() if line.strip())
        self._overlay_stamp = stamp
        with self._swap:
            if items == self.current.withdrawn:
                return False
            self.current = self.current.withdraw(items)
        log.info("%d items are withdrawn", len(items))
        return True

    def _follow(self, look: Callable[[], bool], every_s: float) -> None:
        said = ""
        while not self._stop.wait(every_s):
            try:
                look()
                said = ""
            except (OSError, ValueError, TesserecError) as error:  # unreadable for now; look again
                if str(error) != said:  # once, not every second
                    said = str(error)
                    log.exception("%s of %s failed", look.__name__, self.workdir)

    def _load(self, release_id: str) -> Loaded:
        """Check, load and warm a release.

        Raises:
            TesserecError: damaged, or the feature registry hasn't its service with its schema.
        """
        folder = release_folder(self.workdir, release_id)
        require_sound(folder)
        manifest = read_release(folder)
        reader = self._reader_for(manifest)
        recommender = self._load_recommender(folder)
        catalogue = Catalogue(recommender.items, recommender.row_of)
        loaded = Loaded(release_id, recommender, reader, catalogue)
        _warm(loaded)
        return loaded

    def _reader_for(self, manifest: dict[str, Any]) -> Reader:
        wanted = (manifest["feature_service"], manifest["feature_schema_hash"])
        # anew for each release: its run may have changed the store's settings, and the former
        # one is in use by another thread
        reader = self._open_reader(self.workdir)
        found = (reader.service, reader.schema_hash)
        if found != wanted:
            raise ServingError(
                f"release {manifest['release_id']} needs feature service {wanted[0]} with schema "
                f"{wanted[1]}; the registry has {found[0]} with {found[1]}. "
                "Apply the feature repository of this release, or promote another one"
            )
        return reader


def _warm(loaded: Loaded) -> None:
    """Do once what the first request would wait for. A silent store is no reason not to serve."""
    rules = Constraints(allowed=loaded.shown_bits)
    loaded.recommender.warm()
    loaded.recommender.recommend([loaded.recommender.item_ids[:2]], 1, rules)
    loaded.recommender.popular(1, rules)
    try:
        loaded.reader.read([""])
    except Exception:  # whatever the store's driver raises; requests degrade until it answers
        log.exception("the feature store does not answer")
