"""The graph of items for a run that decodes by it: built once, for evaluation and release alike."""

from __future__ import annotations

from pathlib import Path

from tesserec.artifacts import Artifact, build
from tesserec.config import RunConfig, to_dict
from tesserec.errors import ArtifactError
from tesserec.steps.catalogue import read_catalogue
from tesserec.steps.train import read_model

VERSION = 3  # 2: the file tells which model it was made for; 3: equal graphs are equal files
KIND = "graph"


def graph_of(
    workdir: Path, config: RunConfig, model: Artifact, codes: Artifact, features: Artifact
) -> Artifact | None:
    """The `graph` artefact, `graph.safetensors`; None where another decoder is asked for.

    Walks on it begin at the items that are most frequent in training.
    """
    if config.decoder.name != "graph":
        return None

    def make(folder: Path) -> None:
        import torch

        from tesserec.decoders.graph import GraphDecoder
        from tesserec.decoders.graph_files import GRAPH

        torch.set_num_threads(config.training.threads)
        items = read_catalogue(config, codes, features)
        if items.codes is None:
            raise ArtifactError("a graph needs codes, and there are none; run the tokenizer again")
        trained = read_model(config.model.name, model, items)
        decoder = GraphDecoder.of(trained, items.codes, edges=config.decoder.edges)
        decoder.start_at(items.frequency).save(folder / GRAPH)

    params = {"edges": config.decoder.edges, "split": to_dict(config.split)}
    parents = [model, codes, features]
    return build(workdir, KIND, params=params, parents=parents, version=VERSION, make=make)[0]
