"""Component: gate codes."""

from kfp.dsl import Artifact, Input, Output

from components.base import component


@component
def gate_codes(
    workdir: str,
    run_id: str,
    config: str,
    vectors: Input[Artifact],
    codes: Input[Artifact],
    verdict: Output[Artifact],
) -> None:
    """Great Expectations on the vectors and the code table."""
    from tesserec.steps.runner import run_step

    run_step("gate_codes", workdir, run_id, config, [vectors.path, codes.path], verdict.path)
