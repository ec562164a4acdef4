"""Where a task runs and what becomes of it when it fails; the same for all pipelines."""

from kfp import kubernetes
from kfp.dsl import PipelineTask

from tesserec.config import ClusterConfig

# Steps that only write a content-keyed artefact may run again; the others act on the outside.
IDEMPOTENT = {
    "ingest", "features", "encode", "tokenize", "train", "evaluate", "evaluate-block",
    "build-release", "survey", "extend", "maintain", "align", "warm-start", "rebuild",
}  # fmt: skip
LONG = {"train", "maintain", "warm-start"}


def place(task: PipelineTask, cluster: ClusterConfig) -> PipelineTask:
    """Caching off (it does not see the library's code), retries where a second try is harmless."""
    # Not the task's name: that of a step's second task ends in "-2".
    step = task.component_spec.name
    task.set_caching_options(False)
    if step in IDEMPOTENT and cluster.retries:
        task.set_retry(cluster.retries, backoff_duration="60s", backoff_factor=2.0)
    kubernetes.set_timeout(task, seconds=24 * 3600 if step in LONG else 6 * 3600)
    return task


def on_gpu(task: PipelineTask, cluster: ClusterConfig) -> PipelineTask:
    """Ask for the cluster's accelerators, and for shared memory of a size that trains."""
    task.set_accelerator_type(cluster.gpu_type)
    task.set_accelerator_limit(cluster.gpu_count)
    for key, value in cluster.node_selector.items():
        kubernetes.add_node_selector(task, key, value)
    kubernetes.add_toleration(task, key=cluster.gpu_type, operator="Exists", effect="NoSchedule")
    # A pod's own /dev/shm has 64 MB, on which data loaders and NCCL die.
    kubernetes.empty_dir_mount(
        task, "shm", "/dev/shm", medium="Memory", size_limit=cluster.shared_memory
    )
    return task
