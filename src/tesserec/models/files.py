"""The two files of a trained model: its weights, and the shape that they need to be read."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

WEIGHTS = "model.safetensors"
SHAPE = "model.json"


def save_model(model: nn.Module, name: str, shape: Any, folder: Path) -> None:
    """Write both; equal weights give equal bytes. `shape` is a dataclass."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS)
    text = json.dumps({"format": 1, "model": name, "shape": asdict(shape)}, indent=1)
    (folder / SHAPE).write_text(text + "\n")
