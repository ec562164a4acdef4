"""The promoted release as a re-tokenization finds it: items, codes, encoder and tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tesserec.encoders import ContentEncoder
from tesserec.errors import UsageError
from tesserec.release.manifest import part_path, parts_of, read_release, release_folder
from tesserec.release.pointer import promoted
from tesserec.release.verify import require_sound
from tesserec.retokenization.life import with_life
from tesserec.retokenization.reference import FOLDER, Reference
from tesserec.tables import grow_codes, grow_items
from tesserec.tokenizers import load_tokenizer


@dataclass(frozen=True)
class Stock:
    """A release, opened part by part when they are needed; rows are the release's."""

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def release_id(self) -> str:
        return str(self.manifest["release_id"])

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration of the run that the release goes back to.

        Raises:
            UsageError: the release is older than re-tokenization.
        """
        config = self.manifest.get("config")
        if not config:
            raise UsageError(
                f"release {self.release_id} doesn't tell its configuration (an older version made "
                "it); run its configuration again: tesserec run CONFIG.yaml"
            )
        return config

    @cached_property
    def items(self) -> pa.Table:
        """The items with the columns of their life (`life.py`), in row order."""
        return with_life(grow_items(self.paths("items")))

    @cached_property
    def codes(self) -> np.ndarray:
        return grow_codes(self.paths("codes"))

    @cached_property
    def item_ids(self) -> list[str]:
        return self.items["item_id"].to_pylist()

    @cached_property
    def encoder(self) -> ContentEncoder:
        return ContentEncoder.load(self.home("encoder"))

    @cached_property
    def reference_encoder(self) -> ContentEncoder | None:
        """The one that held-out items and new ones are compared by; None: the release has none."""
        home = self.home("encoder") / FOLDER
        return ContentEncoder.load(home) if home.is_dir() else None

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self.home("tokenizer"))

    @cached_property
    def reference(self) -> Reference | None:
        return Reference.load(self.home("tokenizer"))

    def paths(self, name: str) -> list[Path]:
        """The files of a part of the release, in order."""
        return [part_path(self.folder, p) for p in parts_of(self.manifest["parts"].get(name, []))]

    def home(self, name: str) -> Path:
        """The folder `encoder`, `tokenizer` or `decoder`; it may lie in an ancestor."""
        return next(p for path in self.paths(name) for p in path.parents if p.name == name)


def open_stock(workdir: Path) -> Stock:
    """The promoted release, its hashes verified.

    Raises:
        UsageError: nothing is promoted, or the release's model or tokenizer can't take new items.
        ArtifactError: the release is damaged.
    """
    release_id = promoted(workdir)
    if release_id is None:
        raise UsageError(
            f"no release is promoted in {workdir}; run first: tesserec run CONFIG.yaml"
        )
    folder = release_folder(workdir, release_id)
    require_sound(folder)
    stock = Stock(folder, read_release(folder))
    if "codes" not in stock.manifest["parts"]:
        raise UsageError(
            f"release {release_id} has model {stock.manifest['model']}, which has no semantic IDs; "
            "there is nothing to re-tokenize. Use model.name=rpg or fusion"
        )
    if stock.tokenizer.name == "given":
        raise UsageError(
            f"release {release_id} has tokenizer 'given', a finished code table that can't encode; "
            "use tokenizer.name=opq or rqkmeans, or run again with a file of tokenizer.codes that "
            "holds the new items"
        )
    return stock
