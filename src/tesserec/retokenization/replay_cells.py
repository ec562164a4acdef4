"""Parts of a replay on disk: made once, whole or not there, so that a killed bench goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tesserec.artifacts import Artifact, artifact_key, build, write_atomic
from tesserec.config import RunConfig, to_dict
from tesserec.encoders import ENCODERS, ContentEncoder
from tesserec.encoders.precomputed import Precomputed
from tesserec.retokenization.replay_blocks import Timeline
from tesserec.tokenizers import CodeTable, load_tokenizer

VERSION = 1


@dataclass(frozen=True)
class Bench:
    """What all parts of a replay share."""

    workdir: Path
    config: RunConfig
    raw: Artifact
    timeline: Timeline

    def part(
        self,
        kind: str,
        params: Mapping[str, Any],
        parents: Sequence[Artifact],
        make: Callable[[Path], None],
    ) -> Artifact:
        """The artefact `replay_<kind>` of these parameters; what making it cost stays beside.

        What a part is made of names the whole raw data; that it depends on no later event shows in
        its content hash.
        """
        name = f"replay_{kind}"
        edges = self.timeline.edges.tolist()
        recipe = {**params, "edges": edges, "seed": self.config.seed}
        origin = [self.raw, *parents]
        key = artifact_key(name, params=recipe, parents=origin, version=VERSION)

        def timed(folder: Path) -> None:
            began = time.process_time()  # on a busy machine the clock tells of the others
            make(folder)
            write_atomic(self._seconds(name, key), json.dumps(time.process_time() - began))

        return build(
            self.workdir, name, params=recipe, parents=origin, version=VERSION, make=timed
        )[0]

    def seconds(self, part: Artifact) -> float:
        """Processor seconds that making a part took; after a kill, those of the last attempt."""
        return json.loads(self._seconds(part.kind, part.key).read_text())

    def _seconds(self, kind: str, key: str) -> Path:
        return self.workdir / "reports" / "logs" / f"{kind}-{key}" / "seconds.json"

    # ---- content ----

    def new_encoder(self) -> ContentEncoder:
        """An encoder that has learnt nothing yet."""
        from tesserec.encoders.whitening import Whitening

        settings = self.config.encoder
        kind = ENCODERS[settings.name]
        if settings.name == "lsa":
            encoder = kind(settings.lsa_dim, self.config.seed)
        elif settings.name == "sentence":
            encoder = kind(settings.model)
        else:
            encoder = kind.open(self.raw.file("vectors"))
        return ContentEncoder(encoder, Whitening(settings.pca_dim))

    def read_encoder(self, folder: Path) -> ContentEncoder:
        encoder = ContentEncoder.load(folder)
        if isinstance(encoder.encoder, Precomputed):
            encoder.encoder.attach(self.raw.file("vectors"))
        return encoder


@dataclass(frozen=True)
class Codes:
    """The codes of a block's items under one policy, and what made them."""

    encoder: ContentEncoder
    tokenizer: Any
    codes: np.ndarray  # [N known at the block's end, m]

    def encode(self, items: Any) -> np.ndarray:
        return self.tokenizer.encode(self.encoder.encode(items))

    def grown(self, items: Any) -> np.ndarray:
        """Codes of all of `items`: those that are there already, and the others encoded."""
        return np.concatenate([self.codes, self.encode(items.slice(len(self.codes)))])

    def save(self, folder: Path, item_ids: Sequence[str]) -> None:
        self.encoder.save(folder / "encoder")
        self.tokenizer.save(folder / "tokenizer")
        CodeTable(item_ids, self.codes).save(folder)

    @classmethod
    def read(cls, bench: Bench, part: Artifact) -> Codes:
        encoder = bench.read_encoder(part.file("encoder"))
        tokenizer = load_tokenizer(part.file("tokenizer"))
        return cls(encoder, tokenizer, CodeTable.load(part.path).codes)


def settings(config: RunConfig, *sections: str) -> dict[str, Any]:
    """Sections of the configuration, as parameters of a part."""
    tree = to_dict(config)
    return {name: tree[name] for name in sections}
