"""Component: tokenize."""

from kfp.dsl import Artifact, Input, Output

from components.base import component


@component
def tokenize(
    workdir: str,
    run_id: str,
    config: str,
    vectors: Input[Artifact],
    features: Input[Artifact],
    codes: Output[Artifact],
) -> None:
    """Vectors -> codes: fit the tokenizer on training items, encode all."""
    from tesserec.steps.runner import run_step

    run_step("tokenize", workdir, run_id, config, [vectors.path, features.path], codes.path)
