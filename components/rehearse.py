"""Component: rehearse."""

from kfp.dsl import Artifact, Input, Output

from components.base import component


@component
def rehearse(
    workdir: str,
    run_id: str,
    config: str,
    release: Input[Artifact],
    features: Input[Artifact],
    store: Input[Artifact],
    rehearsal: Output[Artifact],
) -> None:
    """Load the release in a throw-away Triton and compare its answers with the offline ones."""
    from tesserec.steps.runner import run_step

    parents = [
        release.path,
        features.path,
        store.path,
    ]
    run_step("rehearse", workdir, run_id, config, parents, rehearsal.path)
