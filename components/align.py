"""Component: align."""

from kfp.dsl import Artifact, Input, Output

from components.base import component


@component
def align(
    workdir: str,
    run_id: str,
    config: str,
    codes: Input[Artifact],
    vectors: Input[Artifact],
    aligned: Output[Artifact],
) -> None:
    """New codes under the names of those before."""
    from tesserec.steps.runner import run_step

    run_step("align", workdir, run_id, config, [codes.path, vectors.path], aligned.path)
