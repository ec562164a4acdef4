"""Speeds and TensorBoard files of a training: outside the artefact, which holds no times."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

log = logging.getLogger(__name__)


class Telemetry:
    """Writes `speed.jsonl` and TensorBoard events to a folder; without one it writes nothing."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._writer: Any = None

    def __enter__(self) -> Telemetry:
        if self.folder is None:
            return self
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            log.warning("no TensorBoard files: pip install 'tesserec[train]' brings tensorboard")
            return self
        self._writer = SummaryWriter(str(self.folder))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer:
            self._writer.close()

    def epoch(self, line: Mapping[str, Any], *, seconds: float, rows: int) -> None:
        """Record one epoch's metrics and its speed in training rows a second."""
        if self.folder is None:
            return
        speed = {"epoch": line["epoch"], "seconds": round(seconds, 3), "rows_per_s": rows / seconds}
        with (self.folder / "speed.jsonl").open("a") as handle:
            handle.write(json.dumps(speed) + "\n")
        if self._writer:
            for name, value in {**line, **speed}.items():
                if name != "epoch":
                    self._writer.add_scalar(name, value, line["epoch"])
            self._writer.flush()
