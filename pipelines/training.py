"""The training pipeline: raw events -> features -> codes -> model -> release -> promotion."""

from typing import Any

from kfp import dsl

from components.build_release import build_release
from components.encode import encode
from components.evaluate import evaluate
from components.feature_store import feature_store
from components.features import features
from components.gate_codes import gate_codes
from components.gate_features import gate_features
from components.gate_metrics import gate_metrics
from components.gate_raw import gate_raw
from components.ingest import ingest
from components.promote import promote
from components.rehearse import rehearse
from components.report import report
from components.tokenize import tokenize
from components.train import train
from pipelines.placing import on_gpu, place
from tesserec.config import ClusterConfig


def training_pipeline(cluster: ClusterConfig) -> Any:
    """The pipeline as a KFP object, with the cluster's wishes on its steps."""

    @dsl.pipeline(
        name="tesserec-training",
        description="From raw events to a promoted release, with gates.",
    )
    def pipeline(workdir: str, run_id: str, config: str) -> None:
        exit_task = report(workdir=workdir, run_id=run_id)
        exit_task.set_caching_options(False)
        shared = {"workdir": workdir, "run_id": run_id, "config": config}
        with dsl.ExitHandler(exit_task, name="run"):
            raw = place(ingest(**shared), cluster)
            raw_gate = place(gate_raw(**shared, raw=raw.outputs["raw"]), cluster)
            feats = place(features(**shared, raw=raw.outputs["raw"]), cluster).after(raw_gate)
            feats_gate = place(gate_features(**shared, features=feats.outputs["features"]), cluster)
            store = place(
                feature_store(**shared, features=feats.outputs["features"]), cluster
            ).after(feats_gate)
            both = {"raw": raw.outputs["raw"], "features": feats.outputs["features"]}
            vectors = place(encode(**shared, **both), cluster).after(feats_gate)
            codes = place(
                tokenize(
                    **shared,
                    vectors=vectors.outputs["vectors"],
                    features=feats.outputs["features"],
                ),
                cluster,
            )
            codes_gate = place(
                gate_codes(
                    **shared, vectors=vectors.outputs["vectors"], codes=codes.outputs["codes"]
                ),
                cluster,
            )
            trained = {
                "codes": codes.outputs["codes"],
                "features": feats.outputs["features"],
            }
            # The point-in-time proof comes first: nothing is trained on a cut that is not proved.
            model = place(train(**shared, **trained), cluster).after(codes_gate, store)
            on_gpu(model, cluster)
            metrics = place(evaluate(**shared, model=model.outputs["model"], **trained), cluster)
            metrics_gate = place(
                gate_metrics(**shared, metrics=metrics.outputs["metrics"]), cluster
            )
            release = place(
                build_release(
                    **shared,
                    **both,
                    store=store.outputs["store"],
                    vectors=vectors.outputs["vectors"],
                    codes=codes.outputs["codes"],
                    model=model.outputs["model"],
                    metrics=metrics.outputs["metrics"],
                ),
                cluster,
            ).after(metrics_gate)
            rehearsal = place(
                rehearse(
                    **shared,
                    release=release.outputs["release"],
                    features=feats.outputs["features"],
                    store=store.outputs["store"],
                ),
                cluster,
            )
            place(
                promote(
                    **shared,
                    release=release.outputs["release"],
                    rehearsal=rehearsal.outputs["rehearsal"],
                ),
                cluster,
            )

    return pipeline
