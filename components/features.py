"""Component: features."""

from kfp.dsl import Artifact, Input, Output

from components.base import component


@component
def features(
    workdir: str,
    run_id: str,
    config: str,
    raw: Input[Artifact],
    features: Output[Artifact],
) -> None:
    """Beam: clean, order and aggregate into histories, profiles and statistics."""
    from tesserec.steps.runner import run_step

    run_step("features", workdir, run_id, config, [raw.path], features.path)
