"""Component: judge model."""

from kfp.dsl import Artifact, Input, Output

from components.base import component


@component
def judge_model(
    workdir: str,
    run_id: str,
    config: str,
    change: Input[Artifact],
    features: Input[Artifact],
    judgement: Output[Artifact],
) -> None:
    """May the maintained release be promoted? Its model beside the promoted one."""
    from tesserec.steps.runner import run_step

    run_step("judge", workdir, run_id, config, [change.path, features.path], judgement.path)
