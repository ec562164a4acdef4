"""The training loop: seeded, resumable at the exact step, early-stopped, best weights kept."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tesserec.config import TrainingConfig
from tesserec.errors import TesserecError, UsageError
from tesserec.models.packed import Batch
from tesserec.models.trainable import Trainable
from tesserec.training.checkpoint import Checkpoints, Position
from tesserec.training.distributed import World, world
from tesserec.training.onward import Onward, optimizer, state_of, tensors_of
from tesserec.training.packing import Windows, epoch_batches
from tesserec.training.prefetch import ahead
from tesserec.training.telemetry import Telemetry

SELECT = "ndcg@10"  # the validation metric that picks the best epoch
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a progress bar shows."""

    epoch: int  # the running one, from 1
    epochs: int
    step: int
    steps: int
    loss: float  # mean of the epoch so far
    rows_per_s: float  # training rows (users) a second, of this process
    seconds_left: float  # to the last epoch; an early stop may come before
    metrics: Mapping[str, float] = field(default_factory=dict)  # of the last validation


Validate = Callable[[Any], Mapping[str, float]]
OnProgress = Callable[[Progress], None]


def fit(
    model: Trainable,
    data: Windows,
    config: TrainingConfig,
    *,
    seed: int,
    validate: Validate | None = None,
    checkpoints: Checkpoints | None = None,
    logs: Path | None = None,
    on_progress: OnProgress | None = None,
    onward: Onward | None = None,
) -> list[dict[str, Any]]:
    """Train `model` in place and leave the best weights in it.

    Returns one line an epoch: epoch, loss, and where validated `val_<metric>`; no times, so that
    equal inputs give equal lines. Speeds go to `logs`. With `onward` a trained model goes on, at a
    constant rate.

    Raises:
        TesserecError: nothing to train on, or the loss stopped being a number.
    """
    if not data.events:
        raise TesserecError("no user has two training events; there is nothing to train on")
    device = device_of(config)
    with _threads(config.threads), world(config.processes, device) as ranks:
        run = _Run(model, data, config, seed, ranks, validate, checkpoints, on_progress, onward)
        with Telemetry(logs if ranks.first else None) as telemetry:
            return run.train(telemetry)


def device_of(config: TrainingConfig) -> torch.device:
    """The device that `training.device` names.

    Raises:
        UsageError: cuda is asked for and there is none.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("training.device is 'cuda', but there is no CUDA device; use auto or cpu")
    cuda = torch.cuda.is_available() and config.device != "cpu"
    return torch.device("cuda" if cuda else "cpu")


def uses_bf16(config: TrainingConfig, device: torch.device) -> bool:
    """Whether matrix products run in bfloat16: where the hardware has it, unless told otherwise."""
    if config.precision != "auto":
        return config.precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def learning_rate(config: TrainingConfig, step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to zero at `steps`; step counts from 0.

    The warm-up takes at most a fifth of all steps, so that a short run also reaches its peak.
    """
    warmup = max(min(config.warmup_steps, steps // 5), 1)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    share = (step - warmup) / max(steps - warmup, 1)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


class _Run:
    """One training: the state that steps share."""

    def __init__(
        self,
        model: Trainable,
        data: Windows,
        config: TrainingConfig,
        seed: int,
        ranks: World,
        validate: Validate | None,
        checkpoints: Checkpoints | None,
        on_progress: OnProgress | None,
        onward: Onward | None,
    ) -> None:
        self.device = device_of(config)
        self.model = model.to(self.device)
        self.data = data
        self.config = config
        self.seed = seed
        self.ranks = ranks
        self.validate = validate if ranks.first else None
        self.checkpoints = checkpoints if ranks.first else None
        self.on_progress = on_progress if ranks.first else None
        self.bf16 = uses_bf16(config, self.device)
        self.epoch_steps = math.ceil(len(data.events) / config.batch_users)
        self.steps = self.epoch_steps * config.epochs
        self.at = Position()
        self.best: dict[str, torch.Tensor] = {}
        self.onward = onward
        self.optimizer = optimizer(model, config, onward, 0)
        ranks.share_gradients(model.parameters())
        self._started = time.monotonic()
        self._steps_here = 0

    def train(self, telemetry: Telemetry) -> list[dict[str, Any]]:
        self._resume()
        while not self.at.done:
            began, rows = time.monotonic(), len(self.data.events)
            self._epoch()
            line = self._close_epoch()
            telemetry.epoch(line, seconds=time.monotonic() - began, rows=rows)
            self._report(line)
            if self.at.done and self.checkpoints:
                self._save()
        best = self.ranks.tensors(self.best)
        if best:
            self.model.train()  # forgets what the last validation has frozen of other weights
            self.model.load_state_dict(best)
        self.model.eval()
        return self.at.history

    def _epoch(self) -> None:
        self.model.train()
        batches = epoch_batches(
            self.data,
            batch=self.config.batch_users,
            seed=self.seed,
            epoch=self.at.epoch,
            start=self.at.batch,
            rank=self.ranks.rank,
            ranks=self.ranks.size,
        )
        for batch in ahead(batches, self.device):
            self.at.loss_sum += self._step(batch)
            self.at.batch += 1
            self.at.step += 1
            self._steps_here += 1
            if self.onward and self.at.step == self.onward.alone_steps:
                self.optimizer = optimizer(self.model, self.config, self.onward, self.at.step)
            if self.checkpoints and self.checkpoints.due():
                self._save()
            if self.on_progress:
                self.on_progress(self.progress())

    def _step(self, batch: Batch) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        self.model.zero_grad(set_to_none=False)
        targets = len(batch.target_items)
        loss = torch.zeros((), device=self.device)
        if targets:  # the last users of an epoch may be fewer than there are ranks
            with _seeded(self.device, self.seed, self.at.epoch, self.at.batch, self.ranks.rank):
                loss = self.model.backward(batch, self.config.label_smoothing, bf16=self.bf16)
        loss = self.ranks.average(loss, targets)
        if self.onward and self.onward.alone(self.at.step):
            self.onward.keep_changed(self.model)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimizer.step()
        value = float(loss)
        if not math.isfinite(value):
            keys = "retokenization.tuning.learning_rate, or that of retokenization.rebuild"
            key = keys if self.onward else "training.learning_rate"
            raise TesserecError(
                f"the loss is {value} at step {self.at.step} (epoch {self.at.epoch + 1}); "
                f"lower {key} ({self.config.learning_rate})"
            )
        return value

    def _rate(self) -> float:
        if self.onward:
            return self.config.learning_rate
        return learning_rate(self.config, self.at.step, self.steps)

    def _close_epoch(self) -> dict[str, Any]:
        at = self.at
        line: dict[str, Any] = {"epoch": at.epoch + 1, "loss": at.loss_sum / at.batch}
        at.epoch, at.batch, at.loss_sum = at.epoch + 1, 0, 0.0
        last = at.epoch == self.config.epochs
        if self.validate and (last or at.epoch % self.config.eval_every == 0):
            self.model.eval()
            with self._autocast():
                metrics = self.validate(self.model)
            line |= {f"val_{name}": value for name, value in metrics.items()}
            self._judge(metrics[SELECT])
        at.history.append(line)
        at.done = self.ranks.agree(last or at.bad >= self.config.patience)
        return line

    def _judge(self, metric: float) -> None:
        if metric > self.at.best:
            self.at.best, self.at.best_epoch, self.at.bad = metric, self.at.epoch, 0
            self.best = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        else:
            self.at.bad += 1

    # ---- checkpoints ----

    def _save(self) -> None:
        if self.checkpoints:
            self.checkpoints.save(self.at, self._tensors(), self.best)

    def _tensors(self) -> dict[str, torch.Tensor]:
        weights = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        return weights | tensors_of(self.optimizer)

    def _resume(self) -> None:
        found = self.checkpoints.load() if self.checkpoints else None
        if not self.ranks.agree(found is not None):
            return
        at, tensors, best = found or (Position(), {}, {})
        self.at = Position(**json.loads(self.ranks.text(json.dumps(asdict(at)))))
        tensors = self.ranks.tensors(tensors)
        self.best = {k: v.to(self.device) for k, v in best.items()}
        self.model.load_state_dict(_under("model.", tensors))
        self.optimizer = optimizer(self.model, self.config, self.onward, self.at.step)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state_of(tensors), "param_groups": groups})
        log.info("resumed at epoch %d, step %d", self.at.epoch + 1, self.at.step)

    # ---- what others see ----

    def progress(self, metrics: Mapping[str, float] | None = None) -> Progress:
        per_step = (time.monotonic() - self._started) / max(self._steps_here, 1)
        return Progress(
            epoch=min(self.at.epoch + (self.at.batch > 0), self.config.epochs),
            epochs=self.config.epochs,
            step=self.at.step,
            steps=self.steps,
            loss=self.at.loss_sum / self.at.batch if self.at.batch else self._last_loss(),
            rows_per_s=len(self.data.events) / self.epoch_steps / per_step,
            seconds_left=per_step * (self.steps - self.at.step),
            metrics=metrics or {},
        )

    def _last_loss(self) -> float:
        return self.at.history[-1]["loss"] if self.at.history else math.nan

    def _report(self, line: Mapping[str, Any]) -> None:
        metrics = {k: v for k, v in line.items() if k.startswith("val_")}
        now = self.progress(metrics)
        if self.on_progress:
            self.on_progress(now)
        shown = "".join(f", {k} {v:.4f}" for k, v in metrics.items())
        log.info(
            "epoch %d/%d: loss %.4f, %.0f rows/s, %.0f s left%s",
            now.epoch,
            now.epochs,
            line["loss"],
            now.rows_per_s,
            now.seconds_left,
            shown,
        )

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)


def _under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


@contextmanager
def _seeded(device: torch.device, *key: int) -> Iterator[None]:
    """Dropout of one step from its own seed; the caller's random state is left as it was."""
    devices = [torch.cuda.current_device()] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
        yield


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """A fixed number of threads: sums are split the same way in every run."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
