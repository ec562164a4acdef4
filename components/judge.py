"""Component: judge."""

from kfp.dsl import Artifact, Input, Output

from components.base import component


@component
def judge(
    workdir: str,
    run_id: str,
    config: str,
    change: Input[Artifact],
    judgement: Output[Artifact],
) -> None:
    """May the extended or rebuilt release be promoted?"""
    from tesserec.steps.runner import run_step

    run_step("judge", workdir, run_id, config, [change.path], judgement.path)
