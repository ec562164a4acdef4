"""Component: extend."""

from kfp.dsl import Artifact, Input, Output

from components.base import component


@component
def extend(
    workdir: str,
    run_id: str,
    config: str,
    survey_of_items: Input[Artifact],
    change: Output[Artifact],
) -> None:
    """Codes for new items: a release that adds them to the promoted one."""
    from tesserec.steps.runner import run_step

    run_step("extend", workdir, run_id, config, [survey_of_items.path], change.path)
