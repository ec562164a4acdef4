"""Finding pipelines/, feature_repo/ and serving/: the wheel does not carry them."""

from __future__ import annotations

import os
from pathlib import Path

from tesserec.errors import UsageError

ENV = "TESSEREC_PROJECT"
CHECKOUT = Path(__file__).resolve().parents[2]  # of an editable install; a wheel's has no folders


def find_project(explicit: str | Path | None = None) -> Path:
    """The folder with `pipelines/` and `feature_repo/`.

    Looked for in `explicit` (`--project`), else TESSEREC_PROJECT, else the current folder and its
    parents, else the checkout that this package is installed from (an editable install).

    Raises:
        UsageError: none is found, or the named one lacks them; the message says how to get them.
    """
    named = explicit or os.environ.get(ENV)
    if named:
        folder = Path(named).resolve()
        if _is_project(folder):
            return folder
        raise UsageError(f"{folder} has no pipelines/ and feature_repo/; name a tesserec checkout")
    here = Path.cwd()
    for folder in (here, *here.parents, CHECKOUT):
        if _is_project(folder):
            return folder
    raise UsageError(
        f"no pipelines/ and feature_repo/ in {here} or above; the wheel does not carry them: "
        f"clone the repository and name it by --project FOLDER or {ENV}"
    )


def _is_project(folder: Path) -> bool:
    return (folder / "pipelines").is_dir() and (folder / "feature_repo").is_dir()
