"""Component: gate raw."""

from kfp.dsl import Artifact, Input, Output

from components.base import component


@component
def gate_raw(
    workdir: str,
    run_id: str,
    config: str,
    raw: Input[Artifact],
    verdict: Output[Artifact],
) -> None:
    """Great Expectations on raw interactions and items."""
    from tesserec.steps.runner import run_step

    run_step("gate_raw", workdir, run_id, config, [raw.path], verdict.path)
