"""The release that a server starts with: the promoted one, or one that was promoted before it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tesserec.errors import ServingError, TesserecError
from tesserec.release.manifest import read_release, release_folder, releases_folder
from tesserec.release.pointer import read_pointer
from tesserec.serving.loaded import Loaded

log = logging.getLogger(__name__)


def load_first(
    workdir: Path, wanted: str, load: Callable[[str], Loaded]
) -> tuple[Loaded, str | None]:
    """The wanted release, or the first good one of `former`; and what is wrong with the wanted.

    Raises:
        TesserecError: what `load` raised, if there is no other release to try.
        ServingError: none is any good; the message names each, and why.
    """
    problems: dict[str, str] = {}
    for release_id in (wanted, *former(workdir, wanted)):
        try:
            found = load(release_id)
        except Exception as error:  # whatever is wrong with one, another may be good
            if release_id == wanted and not former(workdir, wanted):
                raise
            log.exception("release %s can't be served", release_id)
            problems[release_id] = str(error) or type(error).__name__
            continue
        if release_id != wanted:
            log.error(
                "RELEASE %s IS PROMOTED AND NO GOOD; %s ANSWERS INSTEAD. Make it again, or run "
                "`tesserec release rollback`. What is wrong: %s",
                wanted,
                release_id,
                problems[wanted],
            )
        return found, problems.get(wanted)
    told = "; ".join(f"{release_id}: {problem}" for release_id, problem in problems.items())
    raise ServingError(f"no release of {workdir} can be served: {told}")


def former(workdir: Path, wanted: str) -> list[str]:
    """Releases to fall back to that are still kept: the parent, then what was promoted before, the
    last one first. One that never was promoted has perhaps failed its rehearsal: it is not asked.
    """
    pointer = read_pointer(workdir)
    order: list[str] = []
    with suppress(TesserecError):  # its manifest may be what is damaged
        order.append(read_release(release_folder(workdir, wanted))["parent"])
    if pointer:
        order += [pointer["release_id"], *reversed(pointer["history"])]
    kept = [one for one in order if one and (releases_folder(workdir) / one).is_dir()]
    return [one for one in dict.fromkeys(kept) if one != wanted]
