"""Models by name: to be made for a run, and as a release or an artefact holds them.

A trained model is two files, `model.json` and `model.safetensors`; one that mixes others (`parts`)
is `<name>.json` beside theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from tesserec.errors import ArtifactError
from tesserec.models import MODELS, PARTS
from tesserec.models.files import SHAPE, WEIGHTS

# model's name -> file's name -> where it is
Files = Mapping[str, Mapping[str, Path]]


def model_class(name: str) -> Any:
    """The class of a model.

    Raises:
        ArtifactError: this version has no such model.
    """
    module, _, attribute = MODELS[_known(name)].partition(":")
    return getattr(import_module(module), attribute)


def parts_of(name: str) -> tuple[str, ...]:
    """The trained models that a model consists of: its parts, or itself; raises as above."""
    return PARTS.get(_known(name), (name,))


def members(name: str) -> dict[str, tuple[str, ...]]:
    """The files of a model and of its parts: name -> names of its files."""
    parts = parts_of(name)
    trained = {part: (SHAPE, WEIGHTS) for part in parts}
    return trained if parts == (name,) else {**trained, name: (f"{name}.json",)}


def files_of(name: str, folder: Path) -> Files:
    """Of the artefact of a model: files lie in the folder itself, or in one for each member."""
    found = members(name)
    if len(found) == 1:
        return {name: {file: folder / file for file in found[name]}}
    return {m: {file: folder / m / file for file in files} for m, files in found.items()}


def read_model(
    name: str,
    files: Files,
    codes: np.ndarray | None,
    items: int,
    held: Mapping[str, Any] | None = None,
) -> Any:
    """A saved model, for a catalogue of N items that may have grown since.

    Args:
        codes: the code table [N, m]; None where there is none.
        held: models of the same files that are in memory, by name: their weights are shared.

    Raises:
        ArtifactError: files are missing, damaged, or don't belong to these codes.
    """
    kind, parts = model_class(name), parts_of(name)
    if kind.needs_codes and codes is None:
        raise ArtifactError(f"model {name} needs codes, and there are none; run verify")
    if parts != (name,):
        made = {part: read_model(part, files, codes, items, held) for part in parts}
        return kind.read(_file(files, name, f"{name}.json"), made, codes)
    catalogue = codes if kind.needs_codes else items
    if held and name in held:
        return held[name].grown(catalogue)
    shape, weights = (_file(files, name, file) for file in (SHAPE, WEIGHTS))
    return kind.read(shape, weights, catalogue)


def _known(name: str) -> str:
    if name not in MODELS:
        raise ArtifactError(
            f"there is no model {name!r}, this version has {', '.join(MODELS)}; "
            "use the version that made it"
        )
    return name


def _file(files: Files, name: str, file: str) -> Path:
    try:
        return files[name][file]
    except KeyError:
        raise ArtifactError(f"model {name} has no {file}; run verify") from None
