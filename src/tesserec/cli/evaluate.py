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
  tesserec evaluate --workdir seed1 --also seed2 --also seed3    # means over three seeds
"""
SHOWN = ("recall@5", "recall@10", "ndcg@5", "ndcg@10")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--release", help="release id (default: the promoted one)")
    parser.add_argument("--users", type=int, default=0, help="sample of users (default: all)")
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        type=Path,
        metavar="WORKDIR",
        help="a run with another seed, otherwise equal: adds means over seeds (repeatable)",
    )
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
    if options.also:
        result["seeds"] = _over_seeds(workdir, release_id, options.also, params)
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
    if options.also:
        _show_seeds(out, result["seeds"])
    return 0


def _over_seeds(
    workdir: Path, release_id: str, also: list[Path], params: dict[str, Any]
) -> dict[str, Any]:
    """Means over this release and the promoted ones of other workdirs, as their runs ranked."""
    import pyarrow.parquet as pq

    from tesserec.evaluation.seeds import over_seeds
    from tesserec.release import promoted, read_release, release_folder

    tables, releases, models = [], [], set()
    for folder in (workdir, *(a.resolve() for a in also)):
        found = release_id if folder == workdir else promoted(folder)
        if found is None:
            raise UsageError(f"no release is promoted in {folder}; leave it out of --also")
        if found in releases:
            raise UsageError(
                f"{folder} holds release {found} again; one run counts as one seed: leave it out "
                "of --also, or name a run with another seed"
            )
        manifest = read_release(release_folder(folder, found))
        metrics = _source(folder, manifest, "metrics")
        if metrics.manifest["params"]["split"] != params["split"]:
            raise UsageError(f"{folder} splits its events otherwise than {workdir}; leave it out")
        tables.append(pq.read_table(metrics.file("per_user.parquet")))
        releases.append(found)
        models.add(manifest["model"])
    if len(models) > 1:
        raise UsageError(f"the workdirs hold models {', '.join(sorted(models))}; name one kind")
    found = over_seeds(
        tables,
        models.pop(),
        resamples=params["evaluation"]["bootstrap"],
        seed=params["seed"],
    )
    return {"releases": releases, **found}


def _show_seeds(out: Output, found: dict[str, Any]) -> None:
    rows = [
        [name, protocol]
        + [f"{table[protocol][m]:.4f} ± {table[protocol][m + '_sd']:.4f}" for m in SHOWN]
        + ["{:.4f} to {:.4f}".format(*table[protocol]["ndcg@10_ci"])]
        for name, table in found["rankers"].items()
        for protocol in ("kept", "dropped")
    ]
    columns = ["ranker", "seen", *SHOWN, "95 % interval of ndcg@10"]
    out.table(f"mean over {found['seeds']} seeds ± their deviation", columns, rows, left=2)


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
