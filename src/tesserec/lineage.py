"""The lineage of codes: what they mean. Tokenizer, codes and model of one lineage fit together.

It begins when a tokenizer is fitted and stays as long as its codes mean the same to the model:
`maintain` keeps it, a rebuild begins another one. Tokenizer, table and model carry it, so that
parts of two releases are refused even where their shapes agree.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from tesserec.artifacts import write_atomic

LINEAGE = "lineage.json"  # in a tokenizer's folder
KEY = "lineage"  # in a model's model.json, and of a code file's metadata


def begin_lineage(folder: Path, codes: np.ndarray | None = None) -> str:
    """Name the lineage of the tokenizer saved in `folder` by its bytes, and write it there.

    `codes`: of a given table [N, m], which is all that there is of its tokenizer.
    """
    digest = hashlib.sha256(b"" if codes is None else np.ascontiguousarray(codes).tobytes())
    for path in sorted(p for p in folder.iterdir() if p.is_file() and p.name != LINEAGE):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    lineage = digest.hexdigest()[:16]
    keep_lineage(folder, lineage)
    return lineage


def keep_lineage(folder: Path, lineage: str | None) -> None:
    """Write a lineage into a tokenizer's folder; None: its release tells none."""
    if lineage is not None:
        write_atomic(folder / LINEAGE, json.dumps({KEY: lineage}))


def lineage_of(folder: Path) -> str | None:
    """The lineage of the tokenizer in `folder`; None: it was made before there was one."""
    path = folder / LINEAGE
    return json.loads(path.read_text())[KEY] if path.is_file() else None


def bind_model(path: Path, lineage: str | None) -> None:
    """Note in a saved model's `model.json` for the codes of which lineage it was trained."""
    if lineage is None:
        return
    fields: dict[str, Any] = json.loads(path.read_text())
    path.write_text(json.dumps(fields | {KEY: lineage}, indent=1) + "\n")


def metadata(lineage: str | None) -> dict[str, str] | None:
    """Of a file of codes."""
    return None if lineage is None else {KEY: lineage}
