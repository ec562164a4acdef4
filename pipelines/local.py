"""Run a pipeline here with KFP's subprocess runner: `python -m pipelines.local FOLDER`.

`run.json` of the folder says which, and with what. The command line starts this as a child process,
so that it never imports kfp itself.
"""

import dataclasses
import json
import sys
from pathlib import Path

from kfp import local

from pipelines.compile import PIPELINES
from tesserec.config import from_dict


def main() -> None:
    folder = Path(sys.argv[1])
    run = json.loads((folder / "run.json").read_text())
    local.init(
        local.SubprocessRunner(use_venv=False),
        pipeline_root=str(folder / "kfp"),
        raise_on_error=True,
    )
    # A retry helps against a lost node; here it would only repeat an error, slowly.
    cluster = dataclasses.replace(from_dict(run["config"]).cluster, retries=0)
    pipeline = PIPELINES[run.get("pipeline", "training")](cluster)
    given = {
        "workdir": run["workdir"],
        "run_id": run["run_id"],
        "config": json.dumps(run["config"]),
    }
    pipeline(**given, **run.get("arguments", {}))


if __name__ == "__main__":
    main()
