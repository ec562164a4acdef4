"""Component: feature store."""

from kfp.dsl import Artifact, Input, Output

from components.base import component


@component
def feature_store(
    workdir: str,
    run_id: str,
    config: str,
    features: Input[Artifact],
    store: Output[Artifact],
) -> None:
    """Feast: apply, materialize, and prove the training cut by a point-in-time join."""
    from tesserec.steps.runner import run_step

    run_step("feature_store", workdir, run_id, config, [features.path], store.path)
