"""Component: train."""

from kfp.dsl import Artifact, Input, Output

from components.base import gpu_component


@gpu_component
def train(
    workdir: str,
    run_id: str,
    config: str,
    codes: Input[Artifact],
    features: Input[Artifact],
    model: Output[Artifact],
) -> None:
    """Train the model; resumes from its last checkpoint."""
    from tesserec.steps.runner import run_step

    run_step("train", workdir, run_id, config, [codes.path, features.path], model.path)
