"""Checkpoints from which a killed training goes on at the exact step.

A checkpoint is one safetensors file (weights, optimiser moments) and `state.json`, which names it
and is replaced last, atomically. There is no random state to keep: every shuffle and every dropout
mask comes from (seed, epoch, step).
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tesserec.artifacts import fsync_folder, sha256_of, write_atomic

STATE = "state.json"
log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Position:
    """Where the training stands; plain numbers, exact in JSON."""

    epoch: int = 0  # finished epochs
    batch: int = 0  # finished steps of the current epoch
    step: int = 0  # finished steps in all
    loss_sum: float = 0.0  # of the current epoch's steps
    best: float = -1.0
    best_epoch: int = 0  # 0: none yet
    bad: int = 0  # evaluations without gain
    history: list[dict[str, Any]] = field(default_factory=list)
    done: bool = False


class Checkpoints:
    """A folder with one checkpoint and one set of best weights."""

    def __init__(self, folder: Path, *, recipe: str, every_s: float) -> None:
        """`recipe` says what is being trained; a checkpoint of another recipe is not used."""
        self.folder = folder
        self.recipe = recipe
        self.every_s = every_s
        self._last = time.monotonic()
        self._best: str | None = None  # file of the best weights that we wrote or checked

    def due(self) -> bool:
        return time.monotonic() - self._last >= self.every_s

    def save(
        self, position: Position, tensors: Mapping[str, torch.Tensor], best: Mapping[str, Any]
    ) -> None:
        """Write a checkpoint; a reader sees the former one until this one is whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        files = {"last": f"step-{position.step:09d}.safetensors"}
        self._write(files["last"], tensors)
        if position.best_epoch:
            files["best"] = f"best-{position.best_epoch:06d}.safetensors"
            if files["best"] != self._best:  # one that lies there may be a damaged leftover
                self._write(files["best"], best)
                self._best = files["best"]
        state = {
            "format": 1,
            "recipe": self.recipe,
            "position": asdict(position),
            "files": {k: {"name": n, "sha256": self._hash(n)} for k, n in files.items()},
        }
        write_atomic(self.folder / STATE, json.dumps(state))
        for path in self.folder.glob("*.safetensors"):
            if path.name not in files.values():
                path.unlink(missing_ok=True)
        self._last = time.monotonic()

    def load(self) -> tuple[Position, dict[str, torch.Tensor], dict[str, torch.Tensor]] | None:
        """The last checkpoint: position, tensors, best weights; None if there is none to use."""
        try:
            state = json.loads((self.folder / STATE).read_text())
            if state["recipe"] != self.recipe:
                log.warning("checkpoint %s is of another training; starting anew", self.folder)
                return None
            tensors = {k: self._read(f) for k, f in state["files"].items()}
            position = Position(**state["position"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            log.warning("checkpoint %s can't be read (%s); starting anew", self.folder, error)
            return None
        self._best = state["files"].get("best", {}).get("name")
        return position, tensors["last"], tensors.get("best", {})

    def _write(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        temporary = self.folder / f".{name}.tmp"
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary)
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, self.folder / name)
        fsync_folder(self.folder)

    def _hash(self, name: str) -> str:
        return sha256_of(self.folder / name)

    def _read(self, entry: Mapping[str, str]) -> dict[str, torch.Tensor]:
        path = self.folder / entry["name"]
        if sha256_of(path) != entry["sha256"]:
            raise ValueError(f"{path} has other bytes than {STATE} says")
        # cloned, so that no tensor is a window into the file
        return {k: v.clone() for k, v in load_file(path).items()}
