"""Component: warm start."""

from kfp.dsl import Artifact, Input, Output

from components.base import gpu_component


@gpu_component
def warm_start(
    workdir: str,
    run_id: str,
    config: str,
    codes: Input[Artifact],
    features: Input[Artifact],
    model: Output[Artifact],
) -> None:
    """The promoted model goes on under the new codes."""
    from tesserec.steps.runner import run_step

    run_step("warm_start", workdir, run_id, config, [codes.path, features.path], model.path)
