"""Step `extend`: the items of a survey -> a release with the same model and codes for them too."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesserec.artifacts import Artifact, build, write_atomic
from tesserec.config import RunConfig
from tesserec.errors import ArtifactError, TesserecError
from tesserec.steps.survey import Survey, read_survey

if TYPE_CHECKING:
    from tesserec.retokenization.intake import Intake
    from tesserec.retokenization.stock import Stock

VERSION = 1
log = logging.getLogger(__name__)


def run(workdir: Path, config: RunConfig, survey: Artifact) -> Artifact:
    """The artefact `extension`: `change.json` {release_id (null: nothing to do), parent, counts,
    ...} and, of the new items, `errors.npy`; the release lies in `<workdir>/releases/<id>`.

    Raises:
        TesserecError: another release was promoted since the survey.
    """
    from tesserec.release import verify
    from tesserec.retokenization.stock import open_stock

    stock = open_stock(workdir)
    parent = survey.read_json("summary.json")["parent"]
    if stock.release_id != parent:
        raise TesserecError(
            f"the survey is of release {parent}, and {stock.release_id} is promoted by now; "
            "run the command again"
        )

    def make(folder: Path) -> None:
        import numpy as np

        intake, release_id = _extended(workdir, stock, survey)
        found = {"release_id": release_id, "parent": parent, "cadence": "encode"}
        found |= {"counts": intake.counts, "notes": intake.notes}
        np.save(folder / "errors.npy", intake.errors, allow_pickle=False)
        write_atomic(folder / "change.json", json.dumps(found, indent=1))

    artifact, reused = build(
        workdir, "extension", params={}, parents=[survey], version=VERSION, make=make
    )
    release_id = artifact.read_json("change.json")["release_id"]
    if reused and release_id and verify(workdir / "releases" / release_id):  # pruned or damaged
        _extended(workdir, stock, survey)
    return artifact


def _extended(workdir: Path, stock: Stock, survey: Artifact) -> tuple[Intake, str | None]:
    """Decide about the survey's items and write the release; None if nothing changes."""
    from tesserec.release.delta import build_delta
    from tesserec.retokenization.intake import CADENCE, take_in
    from tesserec.retokenization.vectors import ADDED

    read = read_survey(survey)
    summary = read.summary
    neighbours = _neighbours(workdir, stock, read)
    intake = take_in(
        stock,
        read.listing,
        read.vectors,
        read.seen,
        neighbours,
        now=summary["at"],
        whole=summary["whole"],
    )
    if intake.delta.empty:
        return intake, None
    _no_code_changed(stock, intake)
    sources: dict[str, Any] = dict(stock.manifest["sources"])
    if len(read.vectors):
        sources[ADDED] = [*sources.get(ADDED, []), survey.key]
    release_id = build_delta(
        workdir,
        stock.release_id,
        intake.delta,
        cadence=CADENCE,
        fields={"sources": sources, "encoded_at": summary["at"]},
    )
    log.info("release %s extends %s: %s", release_id, stock.release_id, intake.counts)
    return intake, release_id


def _neighbours(workdir: Path, stock: Stock, survey: Survey) -> Any:
    from tesserec.retokenization import life
    from tesserec.retokenization.neighbours import Neighbours
    from tesserec.retokenization.vectors import vector_parts

    gone = life.leaving(stock.items, survey.listing.seen, survey.summary["whole"])
    active = life.in_status(stock.items, life.ACTIVE) & ~gone
    return Neighbours(lambda: vector_parts(workdir, stock), stock.codes, active)


def _no_code_changed(stock: Stock, intake: Intake) -> None:
    """Of an active item; only one in quarantine, which has a neighbour's code, may get its own.

    Raises:
        ArtifactError: it did; a defect, and nothing is written.
    """
    from tesserec.retokenization import life

    patch = intake.delta.code_patch
    if patch is None:
        return
    wrong = patch[0][~life.waiting(stock.items)[patch[0]]]
    if len(wrong):
        raise ArtifactError(
            f"encoding would change the code of {len(wrong)} active items, "
            f"{stock.item_ids[int(wrong[0])]!r} is the first; nothing was written"
        )
