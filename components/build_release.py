"""Component: build release."""

from kfp.dsl import Artifact, Input, Output

from components.base import component


@component
def build_release(
    workdir: str,
    run_id: str,
    config: str,
    raw: Input[Artifact],
    features: Input[Artifact],
    store: Input[Artifact],
    vectors: Input[Artifact],
    codes: Input[Artifact],
    model: Input[Artifact],
    metrics: Input[Artifact],
    release: Output[Artifact],
) -> None:
    """Bundle encoder, tokenizer, codes and model as one immutable release."""
    from tesserec.steps.runner import run_step

    parents = [
        raw.path,
        features.path,
        store.path,
        vectors.path,
        codes.path,
        model.path,
        metrics.path,
    ]
    run_step("build_release", workdir, run_id, config, parents, release.path)
