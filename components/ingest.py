"""Component: ingest."""

from kfp.dsl import Artifact, Output

from components.base import component


@component
def ingest(
    workdir: str,
    run_id: str,
    config: str,
    raw: Output[Artifact],
) -> None:
    """Read the source and the raw event log into the data contract; bad rows go to quarantine."""
    from tesserec.steps.runner import run_step

    run_step("ingest", workdir, run_id, config, [], raw.path)
