"""Component: encode."""

from kfp.dsl import Artifact, Input, Output

from components.base import component


@component
def encode(
    workdir: str,
    run_id: str,
    config: str,
    raw: Input[Artifact],
    features: Input[Artifact],
    vectors: Output[Artifact],
) -> None:
    """Item content -> whitened vectors."""
    from tesserec.steps.runner import run_step

    run_step("encode", workdir, run_id, config, [raw.path, features.path], vectors.path)
