"""The loop: it learns, stops, keeps the best, reports, and reads its own checkpoints."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tesserec.config import TrainingConfig
from tesserec.errors import TesserecError, UsageError
from tesserec.models.rpg import RPG, Shape
from tesserec.training.checkpoint import Checkpoints, Position
from tesserec.training.loop import Progress, device_of, fit, learning_rate, uses_bf16
from tesserec.training.packing import Windows, windows

ITEMS = 30


def settings(**changes: Any) -> TrainingConfig:
    base: dict[str, Any] = {
        "epochs": 4,
        "batch_users": 16,
        "learning_rate": 0.01,
        "threads": 1,
        "precision": "fp32",
        "device": "cpu",
        "eval_every": 1,
    }
    return TrainingConfig(**(base | changes))


def task() -> tuple[RPG, Windows]:
    """Walks in steps of three: learnable."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 8, (ITEMS, 4)).astype(np.uint8)
    walks = [(np.arange(n) * 3 + s) % ITEMS for n, s in rng.integers((2, 0), (60, ITEMS), (90, 2))]
    shape = Shape(digits=4, codebook_size=8, dim=16, heads=2, ffn=16, dropout=0.2)
    return RPG(shape, codes, seed=1), windows(walks, 50)


def test_golden_loss_of_20_steps() -> None:
    """A refactoring must not move it (fp32, one thread; the tolerance is for other processors)."""
    model, data = task()
    losses: dict[int, float] = {}

    def note(now: Progress) -> None:
        losses.setdefault(now.step, now.loss)

    fit(model, data, settings(), seed=1, on_progress=note)
    assert losses[20] == pytest.approx(2.094984233379364, rel=1e-4)


def test_it_learns_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    model, data = task()
    values = iter([0.1, 0.3, 0.2, 0.2, 0.2, 0.9])
    kept: list[torch.Tensor] = []

    def validate(now: RPG) -> dict[str, float]:
        kept.append(now.tokens.detach().clone())
        return {"ndcg@10": next(values)}

    config = settings(epochs=9, patience=3)
    history = fit(model, data, config, seed=1, validate=validate, logs=tmp_path / "logs")
    assert [line["epoch"] for line in history] == [1, 2, 3, 4, 5]  # three without gain
    assert history[-1]["loss"] < history[0]["loss"]
    assert torch.equal(model.tokens, kept[1])
    assert not model.training
    speeds = [json.loads(s) for s in (tmp_path / "logs" / "speed.jsonl").read_text().splitlines()]
    assert [s["epoch"] for s in speeds] == [1, 2, 3, 4, 5]
    assert list((tmp_path / "logs").glob("events.out.tfevents*"))


def test_the_trained_model_answers_with_its_best_weights() -> None:
    """Not with those that a validation after the best epoch has frozen."""
    model, data = task()
    values = iter([0.3, 0.1, 0.1])

    def validate(now: RPG) -> dict[str, float]:
        now.eval().freeze()
        return {"ndcg@10": next(values)}

    fit(model, data, settings(epochs=3, patience=3), seed=1, validate=validate)
    saved, _ = task()
    saved.load_state_dict(model.state_dict())
    history = [np.arange(5)]
    assert torch.equal(model.state(history), saved.eval().state(history))


def test_equal_seeds_give_equal_weights_and_leave_the_callers_random_state() -> None:
    runs = []
    for seed in (7, 7, 8):
        model, data = task()
        before = torch.random.get_rng_state()
        history = fit(model, data, settings(), seed=seed)
        assert torch.equal(torch.random.get_rng_state(), before)
        runs.append((model.tokens.detach(), history))
    assert torch.equal(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]
    assert not torch.equal(runs[0][0], runs[2][0])


def test_progress_counts_to_the_end() -> None:
    model, data = task()
    seen: list[Progress] = []
    fit(model, data, settings(epochs=2), seed=1, on_progress=seen.append)
    assert seen[-1].step == seen[-1].steps == 14
    assert seen[-1].epoch == seen[-1].epochs == 2
    assert all(math.isfinite(p.loss) and p.rows_per_s > 0 and p.seconds_left >= 0 for p in seen)


def test_learning_rate_warms_up_then_falls_to_zero() -> None:
    config = settings(learning_rate=1.0, warmup_steps=10)
    rates = [learning_rate(config, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert rates[10] == 1.0
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert rates[-1] < 1e-3
    assert learning_rate(config, 4, 20) == 1.0  # at most a fifth of a short run
    assert learning_rate(config, 0, 1) == 1.0


def test_nothing_to_train_on_and_divergence_are_said() -> None:
    model, _ = task()
    with pytest.raises(TesserecError, match="nothing to train on"):
        fit(model, windows([np.array([1])], 50), settings(), seed=1)
    model, data = task()
    with torch.no_grad():
        model.tokens[0, 0, 0] = torch.nan
    with pytest.raises(TesserecError, match=r"lower training\.learning_rate"):
        fit(model, data, settings(), seed=1)


def test_device_and_precision() -> None:
    cpu = torch.device("cpu")
    assert uses_bf16(settings(precision="bf16"), cpu)
    assert not uses_bf16(settings(precision="fp32"), cpu)
    assert device_of(settings(device="cpu")) == cpu
    if not torch.cuda.is_available():
        assert device_of(settings(device="auto")) == cpu
        with pytest.raises(UsageError, match="no CUDA device"):
            device_of(settings(device="cuda"))


def test_a_checkpoint_of_another_training_or_a_damaged_one_is_not_used(tmp_path: Path) -> None:
    model, data = task()
    fit(model, data, settings(), seed=1, checkpoints=Checkpoints(tmp_path, recipe="a", every_s=0))
    assert Checkpoints(tmp_path, recipe="a", every_s=0).load() is not None
    assert Checkpoints(tmp_path, recipe="b", every_s=0).load() is None
    assert len(list(tmp_path.glob("step-*.safetensors"))) == 1  # older ones are gone
    weights = next(tmp_path.glob("step-*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert Checkpoints(tmp_path, recipe="a", every_s=0).load() is None
    assert Checkpoints(tmp_path / "none", recipe="a", every_s=0).load() is None


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    model, data = task()
    checkpoints = Checkpoints(tmp_path, recipe="a", every_s=1e9)
    history = fit(model, data, settings(), seed=1, checkpoints=checkpoints)
    again, _ = task()
    steps: list[Progress] = []
    resumed = fit(
        again, data, settings(), seed=1, checkpoints=checkpoints, on_progress=steps.append
    )
    assert resumed == history
    assert steps == []
    assert torch.equal(again.tokens, model.tokens)


def test_a_damaged_best_of_a_former_training_is_written_anew(tmp_path: Path) -> None:
    good = {"w": torch.ones(3)}
    position = Position(step=1, best_epoch=1)
    Checkpoints(tmp_path, recipe="a", every_s=0).save(position, good, good)
    best = next(tmp_path.glob("best-*.safetensors"))
    best.write_bytes(best.read_bytes()[:-1] + b"x")
    anew = Checkpoints(tmp_path, recipe="a", every_s=0)
    assert anew.load() is None
    anew.save(position, good, good)
    found = Checkpoints(tmp_path, recipe="a", every_s=0).load()
    assert found is not None and torch.equal(found[2]["w"], good["w"])
