"""Component: rebuild."""

from kfp.dsl import Artifact, Input, Output

from components.base import component


@component
def rebuild(
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
    change: Output[Artifact],
) -> None:
    """The release of the new codes and the model."""
    from tesserec.steps.runner import run_step

    run_step(
        "rebuild",
        workdir,
        run_id,
        config,
        [raw.path, features.path, store.path, vectors.path, codes.path, model.path, metrics.path],
        change.path,
    )
