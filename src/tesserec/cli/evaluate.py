"""`tesserec evaluate`: score a release on the events that its run held out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tesserec.artifacts import Artifact, open_artifact
from tesserec.cli.main import common
from tesserec.cli.output import Output, metric_table
from tesserec.config import SplitConfig
from tesserec.errors import ArtifactError, UsageError

EXAMPLES = """examples:
  tesserec evaluate
  tesserec evaluate --release r0123456789a --users 5000 --json
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--release", help="release id (default: the promoted one)")
    parser.add_argument("--users", type=int, default=0, help="sample of users (default: all)")
    common(parser)


def execute(options: argparse.Namespace, out: Output) -> int:
    from tesserec.data.splits import load_sequences, split
    from tesserec.evaluation.protocol import evaluate_release
    from tesserec.recommender import Recommender
    from tesserec.release import promoted, read_release, release_folder

    workdir: Path = options.workdir.resolve()
    if options.users < 0:
        raise UsageError(f"--users is {options.users}; use 0 for all, or a number of users")
    release_id = options.release or promoted(workdir)
    if release_id is None:
        raise UsageError(f"no release is promoted in {workdir}; name one with --release")
    folder = release_folder(workdir, release_id)
    manifest = read_release(folder)
    features = _source(workdir, manifest, "features")
    params = _source(workdir, manifest, "metrics").manifest["params"]
    parts = split(
        load_sequences(features), SplitConfig(**params["split"]), features.read_json("summary.json")
    )
    metrics = evaluate_release(
        Recommender.load(folder),
        parts,
        users=options.users,
        resamples=params["evaluation"]["bootstrap"],
        seed=params["seed"],
    )
    result: dict[str, Any] = {**metrics, "release_id": release_id, "model": manifest["model"]}
    out.result(result)
    out.line(f"release {release_id}, protocol {params['split']['protocol']}")
    metric_table(out, result)
    slices = [s for s in result["slices"] if s["users"]]
    rows = [
        [f"{s['by']} {s['bin']}", f"{s['users']:,}"]
        + [f"{s[p][m]:.4f}" for p in ("kept", "dropped") for m in ("recall@10", "ndcg@10")]
        for s in slices
    ]
    columns = ["slice", "users", "recall@10 kept", "ndcg@10 kept", "recall@10 dropped"]
    out.table("by how often the target was in training", [*columns, "ndcg@10 dropped"], rows)
    return 0


def _source(workdir: Path, manifest: dict[str, Any], kind: str) -> Artifact:
    """An artefact that the release was made of; the held-out events come from there."""
    path = workdir / "artifacts" / f"{kind}-{manifest['sources'][kind]}"
    try:
        return open_artifact(path)
    except ArtifactError:
        raise ArtifactError(
            f"{path}, which release {manifest['release_id']} was made of, is not in the workdir; "
            "run its configuration again, or use the workdir of its run"
        ) from None
