"""Tokenizers by name, and the saved one of a release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tesserec.errors import ArtifactError
from tesserec.tokenizers.given import Given
from tesserec.tokenizers.opq import OPQ
from tesserec.tokenizers.rqkmeans import RQKMeans

TOKENIZERS: dict[str, Any] = {"opq": OPQ, "rqkmeans": RQKMeans, "given": Given}


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer saved in `folder`.

    Raises:
        ArtifactError: the folder is no tokenizer, or of a kind that this version does not know.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ArtifactError(f"{folder} is not a tokenizer: it has no tokenizer.json")
    name = json.loads(path.read_text())["name"]
    if name not in TOKENIZERS:
        raise ArtifactError(
            f"{path}: unknown tokenizer {name!r}; this version knows {', '.join(TOKENIZERS)}"
        )
    return TOKENIZERS[name].load(folder)
