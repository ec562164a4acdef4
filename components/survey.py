"""Component: survey."""

from kfp.dsl import Artifact, Output

from components.base import component


@component
def survey(
    workdir: str,
    run_id: str,
    config: str,
    survey_of_items: Output[Artifact],
) -> None:
    """The source beside the promoted release; the canary set; vectors of new items."""
    from tesserec.steps.runner import run_step

    run_step("survey", workdir, run_id, config, [], survey_of_items.path)
