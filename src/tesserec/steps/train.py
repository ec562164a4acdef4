"""Step: train the model, or each part of a fusion, on the training part of the sequences."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesserec import progress
from tesserec.artifacts import Artifact, artifact_key, build
from tesserec.config import RunConfig, to_dict
from tesserec.errors import ArtifactError
from tesserec.steps import train_rank
from tesserec.steps.catalogue import Catalogue, read_catalogue

if TYPE_CHECKING:
    from tesserec.training.loop import OnProgress, Progress

VERSION = 1
FUSION_VERSION = 1
KIND = "model"
HISTORY = "history.jsonl"
log = logging.getLogger(__name__)


def run(
    workdir: Path,
    config: RunConfig,
    codes: Artifact,
    features: Artifact,
    *,
    on_progress: OnProgress | None = None,
) -> Artifact:
    """Train and return the `model` artefact: the model's files and `history.jsonl`.

    Each part of a fusion is an artefact of its own, so that it is trained once. A killed training
    goes on from `<workdir>/checkpoints/<key>`, which is removed at the end.
    """
    from tesserec.models.loading import parts_of

    name = config.model.name
    parts = {
        part: trained(part, workdir, config, codes, features, on_progress)
        for part in parts_of(name)
    }
    return parts[name] if name in parts else mixed(workdir, config, codes, features, parts)


def read_model(name: str, model: Artifact, items: Catalogue) -> Any:
    """The trained model of an artefact."""
    from tesserec.models.loading import files_of
    from tesserec.models.loading import read_model as read

    return read(name, files_of(name, model.path), items.codes, len(items.ids))


def trained(
    name: str,
    workdir: Path,
    config: RunConfig,
    codes: Artifact,
    features: Artifact,
    on_progress: OnProgress | None = None,
) -> Artifact:
    """The artefact of one trained model."""
    from tesserec.models.loading import model_class

    kind = model_class(name)
    training = to_dict(kind.schedule(config))
    del training["checkpoint_s"]  # how often a copy is kept changes nothing in the weights
    params = {
        **kind.recipe(config),
        "training": training,
        "split": to_dict(config.split),
        "seed": config.seed,
    }
    parents = [codes, features] if kind.needs_codes else [features]
    key = artifact_key(KIND, params=params, parents=parents, version=VERSION)
    checkpoints = workdir / "checkpoints" / key
    logs = workdir / "reports" / "logs" / f"{KIND}-{key}"

    def make(folder: Path) -> None:
        processes = kind.schedule(config).processes
        if processes > 1:
            job = train_rank.Job(name, config, codes.path, features.path, folder, checkpoints, logs)
            train_rank.launch_all(job, processes)
        else:
            items = read_catalogue(config, codes, features)
            train_model(
                folder, kind, config, items, checkpoints, logs, on_progress or watcher(config, name)
            )
        if kind.needs_codes:
            bind(folder, codes)

    artifact, _ = build(workdir, KIND, params=params, parents=parents, version=VERSION, make=make)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return artifact


def bind(folder: Path, codes: Artifact) -> None:
    """Note in the saved model for whose codes it was trained."""
    from tesserec.lineage import bind_model, lineage_of
    from tesserec.models.files import SHAPE

    bind_model(folder / SHAPE, lineage_of(codes.path / "tokenizer"))


def train_model(
    folder: Path,
    kind: Any,
    config: RunConfig,
    items: Catalogue,
    checkpoints: Path,
    logs: Path,
    on_progress: OnProgress,
) -> None:
    """Train a model of class `kind` and write it to `folder`; of several ranks the first writes."""
    from tesserec.evaluation import protocol
    from tesserec.recommender import Recommender
    from tesserec.training.checkpoint import Checkpoints
    from tesserec.training.launch import is_first
    from tesserec.training.loop import fit
    from tesserec.training.packing import windows

    schedule = kind.schedule(config)
    table = items.codes if kind.needs_codes else None
    asked = items.cases("valid", users=schedule.eval_users, seed=config.seed)

    def validate(model: Any) -> dict[str, float]:
        return protocol.validation_metrics(Recommender.of_parts(model, table, items.ids), asked)

    model = kind.new(config, table, items.frequency > 0)
    data = windows(items.sequences, model.shape.positions)
    log.info("training %s on %d rows with %d targets", kind.name, len(data.events), data.targets)
    kept = Checkpoints(checkpoints, recipe=checkpoints.name, every_s=schedule.checkpoint_s)
    history = fit(
        model,
        data,
        schedule,
        seed=config.seed,
        validate=validate if len(asked) else None,
        checkpoints=kept,
        logs=logs,
        on_progress=on_progress,
    )
    if is_first():
        model.save(folder)
        _write_lines(folder / HISTORY, history)


def mixed(
    workdir: Path,
    config: RunConfig,
    codes: Artifact,
    features: Artifact,
    parts: Mapping[str, Artifact],
) -> Artifact:
    """The artefact of a fusion: its parts' files, and how they are mixed."""
    params = {
        "model": {"name": config.model.name},
        "split": to_dict(config.split),
        "seed": config.seed,
    }

    def make(folder: Path) -> None:
        _mix(folder, config, read_catalogue(config, codes, features), parts)

    return build(
        workdir,
        KIND,
        params=params,
        parents=[*parts.values(), codes, features],
        version=FUSION_VERSION,
        make=make,
    )[0]


def _mix(folder: Path, config: RunConfig, items: Catalogue, parts: Mapping[str, Artifact]) -> None:
    import torch

    from tesserec.models.fusion_fit import fit
    from tesserec.models.loading import members, model_class

    torch.set_num_threads(config.training.threads)
    name = config.model.name
    if items.codes is None:
        raise ArtifactError("a fusion needs codes, and there are none; run the tokenizer again")
    asked = items.cases("valid", users=0, seed=config.seed)
    content, identity = (read_model(part, made, items) for part, made in parts.items())
    found = fit(content, identity, items.codes, asked.histories, asked.targets, seed=config.seed)
    log.info("%s on %d users: %s, NDCG@10 %.4f", name, found.users, found.blend, found.ndcg)
    model_class(name)(content, identity, items.codes, found.blend).save(folder / name)
    lines: list[dict[str, Any]] = []
    for part, artifact in parts.items():
        (folder / part).mkdir()
        for file in members(name)[part]:
            shutil.copyfile(artifact.file(file), folder / part / file)
        own = artifact.file(HISTORY).read_text().splitlines()
        lines += [{"part": part, **json.loads(line)} for line in own]
    _write_lines(folder / HISTORY, [*lines, {"part": name, "fit": asdict(found)}])


def _write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def watcher(config: RunConfig, name: str) -> OnProgress:
    """Hands the progress of a trained model to whoever watches this process (tesserec.progress).

    A part of a fusion is named.
    """
    return partial(_watch, part="" if name == config.model.name else name)


def _watch(now: Progress, part: str) -> None:
    progress.report(
        now.step,
        now.steps,
        part=part,
        epoch=now.epoch,
        epochs=now.epochs,
        loss=round(now.loss, 4),
        rows_per_s=round(now.rows_per_s, 1),
        seconds_left=round(now.seconds_left, 1),
    )
