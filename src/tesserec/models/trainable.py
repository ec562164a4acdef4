"""What the training loop and a run ask of a model that is trained."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import nn

from tesserec.models.packed import Batch

if TYPE_CHECKING:
    from tesserec.config import RunConfig, TrainingConfig


class Trainable(nn.Module):
    """A torch Module with the methods below; it has no behaviour of its own."""

    name: ClassVar[str]  # in models.MODELS
    needs_codes: ClassVar[bool]

    @abstractmethod
    def loss(self, batch: Batch, smoothing: float = 0.0) -> torch.Tensor:
        """Mean over the batch's targets, as one graph."""

    @abstractmethod
    def backward(self, batch: Batch, smoothing: float = 0.0, *, bf16: bool = False) -> torch.Tensor:
        """Add the gradient of `loss` to each parameter's `.grad`; the loss itself."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write `model.safetensors` and `model.json`; equal weights give equal bytes."""

    @staticmethod
    @abstractmethod
    def recipe(config: RunConfig) -> dict[str, Any]:
        """What of the configuration the untrained model depends on."""

    @staticmethod
    @abstractmethod
    def schedule(config: RunConfig) -> TrainingConfig:
        """How it is to be trained."""

    @classmethod
    @abstractmethod
    def new(cls, config: RunConfig, codes: Any, trained: np.ndarray) -> Self:
        """An untrained model for codes [N, m] and items that occur in training, bool [N]."""
