"""Component: report."""

from kfp.dsl import PipelineTaskFinalStatus

from components.base import component


@component
def report(workdir: str, run_id: str, status: PipelineTaskFinalStatus) -> None:
    """Write the run's HTML report, whether the run succeeded or not."""
    from tesserec.steps.runner import run_report

    run_report(workdir, run_id, state=status.state, error=status.error_message)
