"""The train step with `training.processes: 2`: the same model, written once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tesserec.errors import TesserecError
from tesserec.steps import train
from tests.fakes.walks import config, shop


@pytest.mark.parametrize("name", ["rpg", "sasrec"])
def test_two_processes_make_the_artefact_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    weights = []
    for processes in (1, 2):
        workdir = tmp_path / str(processes)
        codes, features = shop(workdir)
        settings = config(model=name, epochs=2, processes=processes, learning_rate=0.001)
        still = {
            part: replace(getattr(settings, part), dropout=0.0) for part in ("model", "sasrec")
        }
        settings = replace(settings, **still)
        model = train.run(workdir, settings, codes, features)
        assert {"history.jsonl", "model.json", "model.safetensors"} <= set(model.manifest["files"])
        assert not list((workdir / "checkpoints").glob("*"))
        assert (workdir / "reports" / "logs" / f"model-{model.key}" / "speed.jsonl").is_file()
        tensors = load_file(model.file("model.safetensors"))
        weights.append(torch.cat([t.flatten() for t in tensors.values()]))
    assert float((weights[0] - weights[1]).norm() / weights[0].norm()) < 1e-5


def test_an_error_in_a_rank_fails_the_step(tmp_path: Path) -> None:
    codes, features = shop(tmp_path)
    settings = config(epochs=1, processes=2, learning_rate=1e30)
    with pytest.raises(TesserecError, match=r"of 2 of the training: the loss is .* lower training"):
        train.run(tmp_path, settings, codes, features)
