"""One process of a training in several: the train step starts `training.processes` of them.

    torchrun --nnodes 2 --nproc-per-node 4 -m tesserec.steps.train_rank JOB.json

does the same over several machines, for a job that lies where all of them can read it.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tesserec.artifacts import open_artifact
from tesserec.config import RunConfig, from_dict, to_dict
from tesserec.training.launch import launch, run_rank


@dataclass(frozen=True)
class Job:
    """What every rank has to know."""

    name: str  # of the model
    config: RunConfig
    codes: Path  # artefacts
    features: Path
    folder: Path  # where rank 0 writes the model
    checkpoints: Path
    logs: Path

    def write(self, path: Path) -> None:
        fields = {k: v for k, v in vars(self).items() if k != "config"}
        text = {k: str(v) for k, v in fields.items()} | {"config": to_dict(self.config)}
        path.write_text(json.dumps(text))

    @classmethod
    def read(cls, path: Path) -> Job:
        fields = json.loads(path.read_text())
        name, config = fields.pop("name"), from_dict(fields.pop("config"))
        return cls(name=name, config=config, **{k: Path(v) for k, v in fields.items()})


def launch_all(job: Job, processes: int) -> None:
    """Train in so many processes on this machine.

    Raises:
        TesserecError: one of them failed.
    """
    with tempfile.TemporaryDirectory(prefix="tesserec-job-") as folder:
        path = Path(folder) / "job.json"
        job.write(path)
        launch([sys.executable, "-m", "tesserec.steps.train_rank", str(path)], processes)


def main(path: Path) -> None:
    """Take part in the training of a job."""
    from tesserec.models.loading import model_class
    from tesserec.steps.catalogue import read_catalogue
    from tesserec.steps.train import train_model, watcher

    job = Job.read(path)
    codes, features = open_artifact(job.codes), open_artifact(job.features)
    items = read_catalogue(job.config, codes, features)
    kind = model_class(job.name)
    on_progress = watcher(job.config, job.name)
    train_model(job.folder, kind, job.config, items, job.checkpoints, job.logs, on_progress)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    run_rank(lambda: main(Path(sys.argv[1])))
