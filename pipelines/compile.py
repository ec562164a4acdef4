"""Write the cluster's YAML of every pipeline: `python -m pipelines.compile`."""

import argparse
from pathlib import Path

from kfp import compiler

from pipelines.retokenization import retokenization_pipeline
from pipelines.training import training_pipeline
from tesserec.config import ClusterConfig, load_config

PIPELINES = {"training": training_pipeline, "retokenization": retokenization_pipeline}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipelines.compile", description=__doc__)
    parser.add_argument("--config", type=Path, help="a run's YAML; its `cluster` section is used")
    parser.add_argument(
        "--out", type=Path, default=Path("build/pipelines"), help="folder to write to"
    )
    options = parser.parse_args()
    cluster = load_config(options.config).cluster if options.config else ClusterConfig()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, pipeline in PIPELINES.items():
        target = options.out / f"{name}.yaml"
        compiler.Compiler().compile(pipeline(cluster), str(target))
        print(f"wrote {target}")


if __name__ == "__main__":
    main()
