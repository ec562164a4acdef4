"""The re-tokenization pipeline: what is new -> which cadence is due -> that cadence, and no other.

Scheduled every quarter of an hour with `cadence` "due" it encodes new items when there are any and
does nothing when there are none; drift, edits and the model's age bring `maintain`, and what that
can't mend `rebuild` (docs/retokenization.md).
"""

from typing import Any

from kfp import dsl
from kfp.dsl import PipelineTask

from components.align import align
from components.decide import decide
from components.encode import encode
from components.evaluate_block import evaluate_block
from components.extend import extend
from components.feature_store import feature_store
from components.features import features
from components.freshness import freshness
from components.gate_codes import gate_codes
from components.gate_features import gate_features
from components.gate_raw import gate_raw
from components.hand_over import hand_over
from components.ingest import ingest
from components.judge import judge
from components.judge_model import judge_model
from components.maintain import maintain
from components.rebuild import rebuild
from components.rehearse import rehearse
from components.survey import survey
from components.tokenize import tokenize
from components.warm_start import warm_start
from pipelines.placing import on_gpu, place
from tesserec.config import ClusterConfig


class _Tasks:
    """The pieces that cadences share, each with the parameters of the run."""

    def __init__(self, cluster: ClusterConfig, shared: dict[str, Any]) -> None:
        self.cluster, self.shared = cluster, shared

    def __call__(self, component: Any, *after: PipelineTask, **inputs: Any) -> PipelineTask:
        task = place(component(**self.shared, **inputs), self.cluster)
        return task.after(*after) if after else task

    def encoded(self, found: PipelineTask) -> PipelineTask:
        """New items into the running server."""
        made = self(extend, survey_of_items=found.outputs["survey_of_items"])
        judged = self(judge, change=made.outputs["change"])
        return self(hand_over, judged, change=made.outputs["change"])

    def events(self, *after: PipelineTask) -> tuple[Any, Any, PipelineTask]:
        """Raw data, features, and the gate that lets them be used."""
        raw = self(ingest, *after)
        raw_gate = self(gate_raw, raw=raw.outputs["raw"])
        made = self(features, raw_gate, raw=raw.outputs["raw"])
        gate = self(gate_features, features=made.outputs["features"])
        return raw.outputs["raw"], made.outputs["features"], gate

    def maintained(self, encoded: PipelineTask) -> None:
        """Codes within the budget, and the model, on top of what was encoded."""
        _, feats, gate = self.events(encoded)
        made = on_gpu(self(maintain, gate, features=feats), self.cluster)
        judged = self(judge_model, change=made.outputs["change"], features=feats)
        self(hand_over, judged, change=made.outputs["change"])

    def rebuilt(self) -> None:
        """A new tokenizer under the old names, and the model under it."""
        raw, feats, gate = self.events()
        store = self(feature_store, gate, features=feats)
        vectors = self(encode, gate, raw=raw, features=feats).outputs["vectors"]
        fitted = self(tokenize, vectors=vectors, features=feats)
        codes = self(align, codes=fitted.outputs["codes"], vectors=vectors).outputs["aligned"]
        codes_gate = self(gate_codes, vectors=vectors, codes=codes)
        model = on_gpu(
            self(warm_start, codes_gate, store, codes=codes, features=feats), self.cluster
        ).outputs["model"]
        figures = self(evaluate_block, model=model, codes=codes, features=feats).outputs["metrics"]
        made = self(
            rebuild,
            raw=raw,
            features=feats,
            store=store.outputs["store"],
            vectors=vectors,
            codes=codes,
            model=model,
            metrics=figures,
        ).outputs["change"]
        rehearsal = self(rehearse, release=made, features=feats, store=store.outputs["store"])
        judged = self(judge_model, rehearsal, change=made, features=feats)
        self(hand_over, judged, change=made)


def retokenization_pipeline(cluster: ClusterConfig) -> Any:
    """The pipeline as a KFP object, with the cluster's wishes on its steps."""

    @dsl.pipeline(
        name="tesserec-retokenization",
        description="New items encoded; codes and model kept fresh, as the evidence asks for.",
    )
    def pipeline(workdir: str, run_id: str, config: str, cadence: str = "due") -> None:
        exit_task = freshness(workdir=workdir, run_id=run_id)
        exit_task.set_caching_options(False)
        shared = {"workdir": workdir, "run_id": run_id, "config": config}
        tasks = _Tasks(cluster, shared)
        with dsl.ExitHandler(exit_task, name="run"):
            found = tasks(survey)
            decision = tasks(
                decide, cadence=cadence, survey_of_items=found.outputs["survey_of_items"]
            )
            due = decision.outputs["Output"]
            with dsl.If(due == "encode", name="encode"):
                tasks.encoded(found)
            with dsl.Elif(due == "maintain", name="maintain"):
                tasks.maintained(tasks.encoded(found))
            with dsl.Elif(due == "rebuild", name="rebuild"):
                tasks.rebuilt()

    return pipeline
