"""The model repository of one server: `serving/models` with the configured limits filled in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesserec.errors import UsageError, need

if TYPE_CHECKING:
    from tesserec.config import LimitSettings

MODEL = "recommend"


def write_repository(source: Path, target: Path, limits: LimitSettings) -> Path:
    """Make `target`: links to all models of `source`, `recommend` with these limits.

    Raises:
        UsageError: `source` has no such model, or its configuration can't be read.
    """
    for folder in source.iterdir():
        if folder.name != MODEL and (folder / "config.pbtxt").is_file():
            target.mkdir(parents=True, exist_ok=True)
            (target / folder.name).symlink_to(folder.resolve())
    ours = target / MODEL
    ours.mkdir(parents=True)
    for entry in (source / MODEL).iterdir():
        if entry.name != "config.pbtxt":
            (ours / entry.name).symlink_to(entry.resolve())
    (ours / "config.pbtxt").write_text(limited((source / MODEL / "config.pbtxt"), limits))
    return target


def limited(path: Path, limits: LimitSettings) -> str:
    """The text of a model's configuration with these limits; the queue's are kept by
    `tesserec.serving.waiting`, as Triton's own batcher stalls with them (docs/decisions.md)."""
    try:
        from google.protobuf import text_format
        from tritonclient.grpc import model_config_pb2
    except ImportError:
        raise need("tritonclient", "client") from None
    made: Any = model_config_pb2
    try:
        config = text_format.Parse(path.read_text(), made.ModelConfig())
    except (OSError, text_format.ParseError) as error:
        raise UsageError(f"{path} is no model configuration: {error}") from None
    config.max_batch_size = limits.batch
    return text_format.MessageToString(config)
