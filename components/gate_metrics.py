"""Component: gate metrics."""

from kfp.dsl import Artifact, Input, Output

from components.base import component


@component
def gate_metrics(
    workdir: str,
    run_id: str,
    config: str,
    metrics: Input[Artifact],
    verdict: Output[Artifact],
) -> None:
    """May the candidate replace what is promoted?"""
    from tesserec.steps.runner import run_step

    run_step("gate_metrics", workdir, run_id, config, [metrics.path], verdict.path)
