"""Tuning: targets of the newest block alone, old ones beside them, a constant rate, kills."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tesserec.config import TrainingConfig, TuningConfig
from tesserec.errors import UsageError
from tesserec.models.rpg import RPG, Shape
from tesserec.models.sasrec import SASRec
from tesserec.models.sasrec import Shape as SASRecShape
from tesserec.training import loop
from tesserec.training.checkpoint import Checkpoints
from tesserec.training.loop import Progress
from tesserec.training.onward import Onward, moments_of
from tesserec.training.packing import CONTEXT, windows
from tesserec.training.tuning import block_windows, tune, with_replay

ITEMS, OLD = 30, 24  # the last six are newer than the model
CODES = np.random.default_rng(0).integers(0, 8, (ITEMS, 4)).astype(np.uint8)
TRAINING = TrainingConfig(batch_users=8, threads=1, precision="fp32", device="cpu", checkpoint_s=0)
TUNING = TuningConfig(epochs=2, learning_rate=0.01)


def trained(**shape: Any) -> RPG:
    made = Shape(digits=4, codebook_size=8, dim=16, heads=2, ffn=16, dropout=0.2, **shape)
    return RPG(made, CODES[:OLD], seed=1).grown(CODES)


def walks() -> tuple[list[np.ndarray], list[int]]:
    rng = np.random.default_rng(1)
    sequences = [
        (np.arange(n) * 3 + s) % ITEMS for n, s in rng.integers((2, 0), (60, ITEMS), (40, 2))
    ]
    return sequences, [int(rng.integers(0, len(s) + 1)) for s in sequences]


@given(st.lists(st.tuples(st.integers(0, 260), st.integers(0, 260)), min_size=1, max_size=8))
def test_each_target_of_the_block_once_with_a_history_before_it(
    cuts: list[tuple[int, int]],
) -> None:
    sequences = [np.arange(n) + 1000 * i for i, (n, _) in enumerate(cuts)]
    starts = [min(n, start) for n, start in cuts]
    data = block_windows(sequences, starts, 50)
    targets: list[int] = []
    for events, skip in zip(data.events, data.skip.tolist(), strict=True):
        assert 2 <= len(events) <= 51
        assert (np.diff(events) == 1).all()
        assert skip + 1 >= CONTEXT or events[0] % 1000 == 0  # reaches back, or there is no more
        targets += events[1 + skip :].tolist()
    expected = [e for s, n in zip(sequences, starts, strict=True) for e in s[max(n, 1) :].tolist()]
    assert sorted(targets) == expected
    assert data.targets == len(targets)


def test_a_short_block_has_as_long_a_history_as_the_model_reads() -> None:
    data = block_windows([np.arange(100)], [97], 50)
    assert data.events[0].tolist() == list(range(49, 100))
    assert data.skip.tolist() == [47]


def test_replay_is_a_drawn_share_of_older_targets() -> None:
    sequences, starts = walks()
    new = block_windows(sequences, starts, 50)
    old = windows([s[:n] for s, n in zip(sequences, starts, strict=True)], 50)

    def replayed(share: float, seed: int) -> list[list[int]]:
        data = with_replay(new, old, share, np.random.default_rng(seed))
        assert [e.tolist() for e in data.events[: len(new.events)]] == [
            e.tolist() for e in new.events
        ]
        extra = data.targets - new.targets
        assert share * new.targets <= extra
        assert extra <= share * new.targets + 50
        return [e.tolist() for e in data.events[len(new.events) :]]

    assert replayed(0.0, 1) == []
    assert replayed(0.3, 1) == replayed(0.3, 1) != replayed(0.3, 2)
    everything = with_replay(new, old, 100.0, np.random.default_rng(0))
    assert everything.targets == new.targets + old.targets


def rates(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seen: list[float] = []
    real = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW, closure: Any = None) -> Any:
        seen.append(self.param_groups[0]["lr"])
        return real(self, closure)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    return seen


def test_the_rate_is_constant_and_the_steps_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = rates(monkeypatch)
    sequences, starts = walks()
    tune(trained(), sequences, starts, TRAINING, TUNING, seed=1)
    data = block_windows(sequences, starts, 50)
    assert set(seen) == {TUNING.learning_rate}
    assert len(data.events) / 8 * 2 <= len(seen) <= (len(data.events) * 1.5 / 8 + 1) * 2


def test_it_learns_the_block_and_equal_seeds_give_equal_weights() -> None:
    sequences, starts = walks()
    runs = []
    for seed in (3, 3, 4):
        model = trained(id_vectors=OLD)
        history = tune(model, sequences, starts, TRAINING, TUNING, seed=seed)
        assert history[-1]["loss"] < history[0]["loss"]
        assert len(model.ids) == OLD  # newer items get none
        runs.append((model.tokens.detach(), history))
    assert torch.equal(runs[0][0], runs[1][0]) and runs[0][1] == runs[1][1]
    assert not torch.equal(runs[0][0], runs[2][0])


def test_changed_codes_move_alone_at_first() -> None:
    sequences, starts = walks()
    model = trained()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    changed = np.zeros((4, 8), dtype=bool)
    changed[1, 2:5] = True
    stages: list[dict[str, torch.Tensor]] = []

    def note(now: Progress) -> None:
        stages.append({k: v.clone() for k, v in model.state_dict().items()})

    tune(model, sequences, starts, TRAINING, TUNING, seed=1, changed=changed, on_progress=note)
    steps = len(stages) - 2  # the end of an epoch is told too
    alone = stages[steps // 5 - 1]
    rows = torch.from_numpy(changed)
    assert not torch.equal(alone["tokens"][rows], before["tokens"][rows])
    assert torch.equal(alone["tokens"][~rows], before["tokens"][~rows])
    assert all(torch.equal(alone[k], before[k]) for k in before if k != "tokens")
    after = stages[steps // 5]
    assert not torch.equal(after["head_weight"], before["head_weight"])


class _Killed(Exception):
    pass


@pytest.mark.parametrize("at", [1, 3, 9])  # while codes move alone, at their last step, later
def test_killed_at_any_step_it_goes_on_to_the_same_weights(tmp_path: Path, at: int) -> None:
    sequences, starts = walks()
    changed = np.zeros((4, 8), dtype=bool)
    changed[0, :4] = True
    moments = _moments(tmp_path / "before")

    def run(stop: int | None, kept: Path) -> RPG:
        model = trained()

        def note(now: Progress) -> None:
            if now.step == stop:
                raise _Killed

        tune(
            model,
            sequences,
            starts,
            TRAINING,
            TUNING,
            seed=1,
            changed=changed,
            moments=moments,
            checkpoints=Checkpoints(kept, recipe="r", every_s=0),
            on_progress=note,
        )
        return model

    whole = run(None, tmp_path / "whole")
    with pytest.raises(_Killed):
        run(at, tmp_path / "killed")
    resumed = run(None, tmp_path / "killed")
    for name, weights in whole.state_dict().items():
        assert torch.equal(weights, resumed.state_dict()[name]), name


def _moments(folder: Path) -> Any:
    sequences, starts = walks()
    model = trained()
    kept = Checkpoints(folder, recipe="m", every_s=0)
    tune(model, sequences, starts, TRAINING, TUNING, seed=5, checkpoints=kept)
    found = kept.load()
    assert found is not None
    return moments_of(found[1], [name for name, _ in model.named_parameters()])


def test_moments_are_taken_up_and_not_written_to(tmp_path: Path) -> None:
    moments = _moments(tmp_path)
    assert float(moments["tokens"]["step"]) > 0
    kept = copy.deepcopy(moments)
    model = trained()
    made = loop.optimizer(model, TRAINING, Onward(moments=moments), 0)
    first = next(p for n, p in model.named_parameters() if n == "tokens")
    assert torch.equal(made.state[first]["exp_avg"], moments["tokens"]["exp_avg"])
    sequences, starts = walks()
    tune(model, sequences, starts, TRAINING, TUNING, seed=1, moments=moments)
    fresh = trained()
    tune(fresh, sequences, starts, TRAINING, TUNING, seed=1)
    assert not torch.equal(model.tokens, fresh.tokens)
    for name, entry in kept.items():
        assert all(torch.equal(v, moments[name][k]) for k, v in entry.items())


def test_a_block_without_targets_leaves_the_model_alone_and_sasrec_is_refused() -> None:
    sequences, _ = walks()
    model = trained()
    before = model.tokens.detach().clone()
    assert tune(model, sequences, [len(s) for s in sequences], TRAINING, TUNING, seed=1) == []
    assert torch.equal(model.tokens, before)
    sasrec = SASRec(SASRecShape(items=ITEMS, dim=8, ffn=8), np.ones(ITEMS, dtype=bool))
    with pytest.raises(UsageError, match="sasrec can't be tuned"):
        tune(sasrec, sequences, [0] * len(sequences), TRAINING, TUNING, seed=1)
