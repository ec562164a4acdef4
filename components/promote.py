"""Component: promote."""

from kfp.dsl import Artifact, Input, Output

from components.base import component


@component
def promote(
    workdir: str,
    run_id: str,
    config: str,
    release: Input[Artifact],
    rehearsal: Input[Artifact],
    promoted: Output[Artifact],
) -> None:
    """Move the pointer `promoted` to the release."""
    from tesserec.steps.runner import run_step

    run_step("promote", workdir, run_id, config, [release.path, rehearsal.path], promoted.path)
