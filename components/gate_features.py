"""Component: gate features."""

from kfp.dsl import Artifact, Input, Output

from components.base import component


@component
def gate_features(
    workdir: str,
    run_id: str,
    config: str,
    features: Input[Artifact],
    verdict: Output[Artifact],
) -> None:
    """Great Expectations on the features."""
    from tesserec.steps.runner import run_step

    run_step("gate_features", workdir, run_id, config, [features.path], verdict.path)
