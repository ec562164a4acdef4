"""Step: make a release of the run's artefacts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tesserec.artifacts import Artifact, build, write_atomic
from tesserec.config import RunConfig, to_dict
from tesserec.steps.catalogue import is_skipped
from tesserec.steps.graph import graph_of
from tesserec.steps.tokenize import training_items

VERSION = 2


def run(
    workdir: Path,
    config: RunConfig,
    raw: Artifact,
    features: Artifact,
    store: Artifact,
    vectors: Artifact,
    codes: Artifact,
    model: Artifact,
    metrics: Artifact,
    *,
    more: Mapping[str, Any] | None = None,
) -> Artifact:
    """Write `<workdir>/releases/<id>/`; the artefact holds `release.json` {release_id}.

    `more`: further fields of the manifest.
    """
    from tesserec.release import build_release, verify

    coded = None if is_skipped(codes) else (vectors, codes)
    trained = training_items(features, config) if coded is None else None
    decoder = to_dict(config.decoder)
    graph = graph_of(workdir, config, model, codes, features)
    if graph is None:  # the other decoders have no options
        decoder = {"name": decoder["name"]}

    def report(out: Path, release_id: str) -> None:
        from tesserec.report import release_report

        made = {"ingest": raw, "features": features, "feature_store": store, "encode": vectors}
        made |= {"tokenize": codes, "train": model, "evaluate": metrics}
        folders = {step: artifact.path for step, artifact in made.items()}
        release_report(workdir, release_id, folders, out)

    def release() -> str:
        return build_release(
            workdir,
            raw=raw,
            config=to_dict(config),
            features=features,
            store=store,
            coded=coded,
            trained=trained,
            model=model,
            metrics=metrics,
            model_name=config.model.name,
            decoder=decoder,
            graph=graph,
            report=report,
            more=more,
        )

    def make(folder: Path) -> None:
        write_atomic(folder / "release.json", json.dumps({"release_id": release()}))

    parents = [raw, features, store, vectors, codes, model, metrics, *([graph] if graph else [])]
    params = {"model": config.model.name, "decoder": decoder}
    artifact, reused = build(
        workdir, "release", params=params, parents=parents, version=VERSION, make=make
    )
    folder = workdir / "releases" / artifact.read_json("release.json")["release_id"]
    if reused and verify(folder):  # pruned or damaged since
        release()
    return artifact
