"""The training pipeline: raw events -> features -> codes -> model -> release -> promotion."""

from typing import Any

from kfp import dsl, kubernetes
from kfp.dsl import PipelineTask

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
from tesserec.config import ClusterConfig

# Steps that only write a content-keyed artefact may run again; the others act on the outside.
IDEMPOTENT = {"ingest", "features", "encode", "tokenize", "train", "evaluate", "build-release"}


def _place(task: PipelineTask, cluster: ClusterConfig) -> PipelineTask:
    """Caching off (it does not see the library's code), retries where a second try is harmless."""
    task.set_caching_options(False)
    if task.name in IDEMPOTENT and cluster.retries:
        task.set_retry(cluster.retries, backoff_duration="60s", backoff_factor=2.0)
    kubernetes.set_timeout(task, seconds=24 * 3600 if task.name == "train" else 6 * 3600)
    return task


def _on_gpu(task: PipelineTask, cluster: ClusterConfig) -> None:
    task.set_accelerator_type(cluster.gpu_type)
    task.set_accelerator_limit(cluster.gpu_count)
    for key, value in cluster.node_selector.items():
        kubernetes.add_node_selector(task, key, value)
    kubernetes.add_toleration(task, key=cluster.gpu_type, operator="Exists", effect="NoSchedule")
    # A pod's own /dev/shm has 64 MB, on which data loaders and NCCL die.
    kubernetes.empty_dir_mount(
        task, "shm", "/dev/shm", medium="Memory", size_limit=cluster.shared_memory
    )


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
            raw = _place(ingest(**shared), cluster)
            raw_gate = _place(gate_raw(**shared, raw=raw.outputs["raw"]), cluster)
            feats = _place(features(**shared, raw=raw.outputs["raw"]), cluster).after(raw_gate)
            feats_gate = _place(
                gate_features(**shared, features=feats.outputs["features"]), cluster
            )
            store = _place(
                feature_store(**shared, features=feats.outputs["features"]), cluster
            ).after(feats_gate)
            both = {"raw": raw.outputs["raw"], "features": feats.outputs["features"]}
            vectors = _place(encode(**shared, **both), cluster).after(feats_gate)
            codes = _place(
                tokenize(
                    **shared,
                    vectors=vectors.outputs["vectors"],
                    features=feats.outputs["features"],
                ),
                cluster,
            )
            codes_gate = _place(
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
            model = _place(train(**shared, **trained), cluster).after(codes_gate, store)
            _on_gpu(model, cluster)
            metrics = _place(evaluate(**shared, model=model.outputs["model"], **trained), cluster)
            metrics_gate = _place(
                gate_metrics(**shared, metrics=metrics.outputs["metrics"]), cluster
            )
            release = _place(
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
            rehearsal = _place(
                rehearse(
                    **shared,
                    release=release.outputs["release"],
                    features=feats.outputs["features"],
                    store=store.outputs["store"],
                ),
                cluster,
            )
            _place(
                promote(
                    **shared,
                    release=release.outputs["release"],
                    rehearsal=rehearsal.outputs["rehearsal"],
                ),
                cluster,
            )

    return pipeline
