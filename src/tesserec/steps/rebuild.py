"""Step `rebuild`: the release of new codes and of the model that goes on under them."""

from __future__ import annotations

import json
from pathlib import Path

from tesserec.artifacts import Artifact, build, write_atomic
from tesserec.config import RunConfig
from tesserec.steps import build_release

VERSION = 1
CADENCE = "rebuild"


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
) -> Artifact:
    """The artefact `rebuilt`: `change.json` {release_id, parent, cadence, churn, counts, ...} and
    `release.json`; the release lies in `<workdir>/releases/<id>` and begins a lineage.

    The codes from before stay valid beside the new ones, as aliases, until codes move again.
    """
    from tesserec.release.manifest import read_release, release_folder

    alignment = codes.read_json("alignment.json")
    until = metrics.read_json("metrics.json")["protocol"]["judged_from"]
    more = {"cadence": CADENCE, "model_until": until, "features": features.key}
    parts = (raw, features, store, vectors, codes, model, metrics)
    made = build_release.run(workdir, config, *parts, more=more)
    release_id = made.read_json("release.json")["release_id"]

    def make(folder: Path) -> None:
        import pyarrow.parquet as pq

        parent = alignment["release"]
        before = read_release(release_folder(workdir, parent))
        known = set(_ids(workdir, before))
        ids = pq.read_table(codes.file("item_ids.parquet"))["item_id"].to_pylist()
        new = sum(item not in known for item in ids)
        change = {
            "release_id": release_id,
            "parent": parent,
            "cadence": CADENCE,
            "counts": {
                "new_items": new,
                "moved": round(alignment["after"]["items"] * alignment["overlap"]),
            },
            "churn": {**alignment["after"], "impressions": alignment["after"]["items"]},
            "alignment": alignment,
            "notes": ["impressions are not weighed in a rebuild: all codes are new"],
        }
        write_atomic(folder / "change.json", json.dumps(change, indent=1))
        write_atomic(folder / "release.json", json.dumps({"release_id": release_id}))

    return build(workdir, "rebuilt", params={}, parents=[made, codes], version=VERSION, make=make)[
        0
    ]


def _ids(workdir: Path, manifest: dict[str, object]) -> list[str]:
    from tesserec.retokenization.stock import Stock

    return Stock(workdir / "releases" / str(manifest["release_id"]), manifest).item_ids
