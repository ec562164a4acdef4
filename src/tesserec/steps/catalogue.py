"""What training and evaluation both begin with: item rows, their codes, and events as rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesserec.artifacts import Artifact, build
from tesserec.config import RunConfig
from tesserec.errors import ArtifactError

if TYPE_CHECKING:
    import numpy as np

    from tesserec.data.splits import Split
    from tesserec.evaluation.protocol import Cases

SKIPPED = "skipped.json"


@dataclass(frozen=True)
class Catalogue:
    """Item rows in the release's order, and the split's events as such rows."""

    ids: list[str]
    codes: np.ndarray | None  # uint8/uint16 [N, m]; None for a model without
    split: Split

    @cached_property
    def row_of(self) -> dict[str, int]:
        return {item: row for row, item in enumerate(self.ids)}

    @cached_property
    def sequences(self) -> list[np.ndarray]:
        """Each user's training events, int64 item rows."""
        from tesserec.evaluation.protocol import training_sequences

        return training_sequences(self.split, self.row_of)

    @cached_property
    def frequency(self) -> np.ndarray:
        """int64 [N]: occurrences in training."""
        from tesserec.evaluation.counts import training_counts

        return training_counts(self.sequences, len(self.ids))

    def cases(self, part: str, *, users: int, seed: int) -> Cases:
        """The `valid` or `test` cases of at most so many users; 0: of all."""
        from tesserec.evaluation import protocol

        return protocol.cases(
            self.split, self.row_of, self.frequency, part=part, users=users, seed=seed
        )


def read_catalogue(config: RunConfig, codes: Artifact, features: Artifact) -> Catalogue:
    """Read items, codes (if they were made) and sequences.

    Raises:
        ArtifactError: codes and features are of other items.
    """
    from tesserec.data.splits import load_sequences, split
    from tesserec.steps.encode import read_items

    ids = read_items(features)["item_id"].to_pylist()
    table = None
    if not is_skipped(codes):
        import pyarrow.parquet as pq
        from safetensors.numpy import load_file

        table = load_file(codes.file("codes.safetensors"))["codes"]
        if pq.read_table(codes.file("item_ids.parquet"))["item_id"].to_pylist() != ids:
            raise ArtifactError(
                f"{codes.path.name} has other item rows ({len(table)}) than item_profile "
                f"({len(ids)}); they stem from different runs: delete both and run again"
            )
    parts = split(load_sequences(features), config.split, features.read_json("summary.json"))
    return Catalogue(ids, table, parts)


# ---- a model without codes: the steps that would make them have nothing to do ----


def needs_codes(config: RunConfig) -> bool:
    from tesserec.models.loading import model_class

    return model_class(config.model.name).needs_codes


def skipped(workdir: Path, kind: str, config: RunConfig, parents: list[Artifact]) -> Artifact:
    """The artefact of a step that this model doesn't need; it says so in `skipped.json`."""
    reason: Mapping[str, Any] = {"reason": f"model {config.model.name} has no codes"}

    def make(folder: Path) -> None:
        (folder / SKIPPED).write_text(json.dumps(reason) + "\n")

    return build(workdir, kind, params=reason, parents=parents, version=1, make=make)[0]


def is_skipped(artifact: Artifact) -> bool:
    return (artifact.path / SKIPPED).is_file()
