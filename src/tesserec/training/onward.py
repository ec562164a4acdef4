"""How the loop goes on with a model that was trained before: constant rate, moments, first steps.

Tokens that stand for something else since they were trained would push the rest of the model about:
for the first steps they move alone, and then all parameters do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from tesserec.config import TrainingConfig

PREFIX = "optimizer."  # of the names of its tensors in a checkpoint

# parameter's name -> exp_avg, exp_avg_sq (shaped as it) and step (scalar) of AdamW
Moments = Mapping[str, Mapping[str, torch.Tensor]]


@dataclass(frozen=True, kw_only=True)
class Onward:
    """What was before, and what changed since."""

    moments: Moments = field(default_factory=dict)  # none: as of a model that never moved
    # parameter's name -> bool, its leading axes: the rows that move alone at first
    changed: Mapping[str, torch.Tensor] = field(default_factory=dict)
    alone_steps: int = 0  # of the changed rows; 0: all move from the start

    def alone(self, step: int) -> bool:
        """Whether only changed rows move in this step, counted from 0."""
        return step < self.alone_steps

    def keep_changed(self, model: nn.Module) -> None:
        """Zero the gradient of everything but the changed rows."""
        for name, parameter in model.named_parameters():
            if parameter.grad is None:
                continue
            rows = self.changed.get(name)
            if rows is None:
                parameter.grad.zero_()
            else:
                parameter.grad[~rows.to(parameter.device)] = 0


def optimizer(
    model: nn.Module, config: TrainingConfig, onward: Onward | None, step: int
) -> torch.optim.AdamW:
    """The optimiser of a training's step: while changed rows move alone, one of their own.

    That one has no moments and no decay, so that a gradient of 0 moves nothing.
    """
    if onward is not None and onward.alone(step):
        chosen = [p for name, p in model.named_parameters() if name in onward.changed]
        return torch.optim.AdamW(chosen, lr=0.0, weight_decay=0.0, fused=True)
    made = torch.optim.AdamW(
        model.parameters(), lr=0.0, weight_decay=config.weight_decay, fused=True
    )
    if onward is not None and onward.moments:
        names = [name for name, _ in model.named_parameters()]
        # a copy: the optimiser works in place
        state = {
            names.index(name): {k: v.clone() for k, v in entry.items()}
            for name, entry in onward.moments.items()
        }
        made.load_state_dict({"state": state, "param_groups": made.state_dict()["param_groups"]})
    return made


def state_of(tensors: Mapping[str, torch.Tensor]) -> dict[int, dict[str, torch.Tensor]]:
    """The optimiser's state in the tensors of a checkpoint, by the parameter's place."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(PREFIX):
            index, key = name.removeprefix(PREFIX).split(".", 1)
            state.setdefault(int(index), {})[key] = tensor
    return state


def tensors_of(made: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The inverse of `state_of`."""
    state: Mapping[int, Mapping[str, Any]] = made.state_dict()["state"]
    return {f"{PREFIX}{i}.{k}": v for i, entry in state.items() for k, v in entry.items()}


def moments_of(tensors: Mapping[str, torch.Tensor], names: Sequence[str]) -> Moments:
    """The moments in the tensors of a checkpoint, by the names of the model's parameters."""
    return {names[index]: entry for index, entry in state_of(tensors).items()}
