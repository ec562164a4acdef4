"""Step `ingest`: the configured source and the raw event log -> the artefact `raw`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tesserec.artifacts import Artifact, artifact_key, build
from tesserec.config import RunConfig
from tesserec.errors import DataError

VERSION = 1


def run(workdir: Path, config: RunConfig) -> Artifact:
    """Return the `raw` artefact of the source as it lies there now.

    Raises:
        UsageError, DataError: see docs/data.md; after too many refused rows, a copy of
            `quarantine.parquet` lies in `<workdir>/reports/logs/raw-<key>/`.
    """
    from tesserec.data.ingest import ingest, ingest_params
    from tesserec.data.sources.eventlog import event_log

    log = event_log(workdir)
    params: dict[str, Any] = ingest_params(
        config.data, config.encoder, config.seed, log, config.tokenizer
    )

    def make(out: Path) -> None:
        try:
            ingest(
                config.data,
                config.encoder,
                config.seed,
                out,
                log=log,
                tokenizer=config.tokenizer,
            )
        except DataError as error:
            import pyarrow.parquet as pq

            side = out / "quarantine.parquet"
            if not side.is_file() or not pq.read_metadata(side).num_rows:
                raise
            key = artifact_key("raw", params=params, parents=(), version=VERSION)
            kept = workdir / "reports" / "logs" / f"raw-{key}" / side.name
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(side, kept)
            raise DataError(f"{error} (all refused rows: {kept})") from None

    artifact, _ = build(workdir, "raw", params=params, parents=(), version=VERSION, make=make)
    return artifact
