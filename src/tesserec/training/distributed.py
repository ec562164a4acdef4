"""Several processes, one training: each takes its share of every step's users.

The gradient of a step is that of one process with the whole batch: the loss is a mean over targets,
so each rank's gradient counts by its number of targets, and weights stay equal on all ranks since
all take the same step. Only rank 0 validates and writes checkpoints; the others wait for its word.

A process is a rank if the environment says so as torchrun does (RANK, WORLD_SIZE, LOCAL_RANK).
`launch.py` starts ranks on one machine; they meet in a file and talk over 127.0.0.1 alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed as dist

from tesserec.errors import TesserecError, UsageError
from tesserec.training.launch import PEER_LOST, STORE

WAIT = timedelta(hours=1)  # for a rank that lives and doesn't answer, a long validation say


class PeerLost(TesserecError):
    """Another rank is gone, so this one can't go on."""

    exit_code = PEER_LOST


class World:
    """The ranks of one training; alone, every method does nothing."""

    def __init__(self, rank: int = 0, size: int = 1, device: torch.device | None = None) -> None:
        self.rank = rank
        self.size = size
        self.device = device or torch.device("cpu")
        self._sums = torch.empty(0)  # all gradients, then two numbers; `.grad` are views into it

    @property
    def alone(self) -> bool:
        return self.size == 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share_gradients(self, parameters: Iterable[torch.Tensor]) -> None:
        """Lay the gradients of `parameters` side by side, so that one message carries them."""
        if self.alone:
            return
        parameters = list(parameters)
        sizes = [p.numel() for p in parameters]
        self._sums = torch.zeros(sum(sizes) + 2, device=self.device)
        pieces = self._sums[:-2].split(sizes)
        for parameter, piece in zip(parameters, pieces, strict=True):
            parameter.grad = piece.view_as(parameter)

    def average(self, loss: torch.Tensor, targets: int) -> torch.Tensor:
        """Make every gradient the mean over the targets of all ranks; the mean loss likewise.

        `loss` is this rank's mean over its own `targets`.
        """
        if self.alone:
            return loss
        self._sums[:-2].mul_(targets)
        self._sums[-2] = loss * targets
        self._sums[-1] = targets
        with _peers():
            dist.all_reduce(self._sums)
        self._sums[:-1].div_(self._sums[-1].clone())
        return self._sums[-2].clone()

    def agree(self, word: bool) -> bool:
        """What rank 0 says."""
        return self.text("yes" if word else "no") == "yes"

    def text(self, text: str) -> str:
        """Rank 0's text, on every rank; that of the others is not looked at."""
        if self.alone:
            return text
        letters = torch.tensor(list(text.encode()), dtype=torch.uint8)
        length = int(self._send(torch.tensor(len(letters))))
        letters = letters if self.first else torch.zeros(length, dtype=torch.uint8)
        return bytes(self._send(letters).tolist()).decode()

    def tensors(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Rank 0's tensors, on every rank and its device."""
        if self.alone:
            return dict(tensors)
        shapes = [(k, str(v.dtype).split(".")[1], list(v.shape)) for k, v in tensors.items()]
        out: dict[str, torch.Tensor] = {}
        for name, kind, shape in json.loads(self.text(json.dumps(shapes))):
            mine = tensors[name] if self.first else torch.empty(shape, dtype=getattr(torch, kind))
            out[name] = self._send(mine)
        return out

    def _send(self, tensor: torch.Tensor) -> torch.Tensor:
        there = tensor.detach().to(self.device).contiguous()
        with _peers():
            dist.broadcast(there, src=0)
        return there


@contextmanager
def world(processes: int, device: torch.device) -> Iterator[World]:
    """The world that the environment names: `processes` ranks, or this process alone.

    Raises:
        UsageError: the environment has another number of ranks than the configuration.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size != processes:
        raise UsageError(
            f"training.processes is {processes}, but this training was started as {size}; set it "
            f"to {size}, or start {processes} (docs/training.md)"
        )
    if size == 1:
        yield World()
        return
    rank, local = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    if device.type == "cuda":
        if local >= torch.cuda.device_count():
            raise UsageError(
                f"training.processes needs a GPU for each process of a machine, and there are "
                f"{torch.cuda.device_count()} for process {local + 1} here; use fewer processes"
            )
        torch.cuda.set_device(local)
    store = os.environ.get(STORE)
    with _peers():
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=f"file://{store}" if store else "env://",
            rank=rank,
            world_size=size,
            timeout=WAIT,
        )
    try:
        yield World(rank, size, device)
    finally:
        dist.destroy_process_group()


@contextmanager
def _peers() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # also dist.DistError: a closed connection, or too long a wait
        raise PeerLost(f"another process of this training is gone: {error}") from error
