"""Component: freshness."""

from kfp.dsl import PipelineTaskFinalStatus

from components.base import component


@component
def freshness(workdir: str, run_id: str, status: PipelineTaskFinalStatus) -> None:
    """Write the report of the run and that of how fresh the release is, however the run ended."""
    from tesserec.steps.runner import run_freshness

    run_freshness(workdir, run_id, state=status.state, error=status.error_message)
