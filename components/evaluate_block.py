"""Component: evaluate block."""

from kfp.dsl import Artifact, Input, Output

from components.base import component


@component
def evaluate_block(
    workdir: str,
    run_id: str,
    config: str,
    model: Input[Artifact],
    codes: Input[Artifact],
    features: Input[Artifact],
    metrics: Output[Artifact],
) -> None:
    """Recall and NDCG of the model and its baselines over the full catalogue."""
    from tesserec.steps.runner import run_step

    parents = [
        model.path,
        codes.path,
        features.path,
    ]
    run_step("evaluate_block", workdir, run_id, config, parents, metrics.path)
