"""What a run is told of its models: shapes, training, decoding."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tesserec.config.checks import check

MODELS = ("rpg", "sasrec", "fusion")
DECODERS = ("auto", "exhaustive", "scan", "scan_gpu", "graph")


def _check_transformer(shape: Any, where: str) -> None:
    for name in ("dim", "layers", "heads", "ffn"):
        value: int = getattr(shape, name)
        check(value >= 1, f"{where}.{name}", value, "use at least 1")
    check(
        shape.dim % shape.heads == 0,
        f"{where}.dim",
        shape.dim,
        f"use a multiple of {where}.heads ({shape.heads})",
    )
    check(0 <= shape.dropout < 1, f"{where}.dropout", shape.dropout, "use 0 to below 1")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which model, and the shape of RPG (Hou et al., KDD 2025, section 3.2)."""

    name: str = "rpg"  # rpg | sasrec | fusion (of both)
    dim: int = 448
    layers: int = 2
    heads: int = 4
    ffn: int = 1024
    temperature: float = 0.03
    dropout: float = 0.4
    token_dropout: float = 0.0  # rpg: share of an item's codes that training hides in a history
    item_dropout: float = 0.0  # rpg: share of a history's items that it hides whole
    # rpg: weight of the cross-entropy over items beside that over digits; 0: as released
    item_loss: float = 0.0
    negatives: int = 1024  # rpg: items drawn a step for it
    id_vectors: bool = False  # rpg: a vector an item beside those of its codes, in histories
    id_dropout: float = 0.3  # rpg: share of a history's items whose own vector training leaves out
    item_scale: str = "sqrt"  # sqrt: sum of token vectors / sqrt(m); mean: as released

    def __post_init__(self) -> None:
        check(self.name in MODELS, "model.name", self.name, f"use one of {', '.join(MODELS)}")
        _check_transformer(self, "model")
        for name in ("token_dropout", "item_dropout", "id_dropout"):
            share: float = getattr(self, name)
            check(0 <= share < 1, f"model.{name}", share, "use 0 to below 1")
        check(self.item_loss >= 0, "model.item_loss", self.item_loss, "use 0 or more")
        check(self.negatives >= 1, "model.negatives", self.negatives, "use at least 1")
        check(self.temperature > 0, "model.temperature", self.temperature, "use more than 0")
        check(
            self.item_scale in ("sqrt", "mean"),
            "model.item_scale",
            self.item_scale,
            "use sqrt or mean",
        )


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How the model is trained."""

    # not a field: where these keys stand in the YAML
    WHERE = "training"

    epochs: int = 40
    batch_users: int = 256
    learning_rate: float = 0.0015
    warmup_steps: int = 300
    weight_decay: float = 0.0
    label_smoothing: float = 0.05
    clip_norm: float = 1.0
    patience: int = 8  # evaluations without gain before an early stop
    eval_every: int = 2  # epochs
    eval_users: int = 5000
    precision: str = "auto"  # auto | fp32 | bf16
    checkpoint_s: float = 60.0  # seconds between checkpoints
    threads: int = 2  # fixed, so that two runs on one machine give the same weights
    processes: int = 1  # ranks; each takes its share of every step's users
    device: str = "auto"  # auto | cpu | cuda

    def __post_init__(self) -> None:
        check(self.epochs >= 1, f"{self.WHERE}.epochs", self.epochs, "use at least 1")
        check(
            self.learning_rate > 0,
            f"{self.WHERE}.learning_rate",
            self.learning_rate,
            "use more than 0",
        )
        check(
            self.precision in ("auto", "fp32", "bf16"),
            f"{self.WHERE}.precision",
            self.precision,
            "use auto, fp32 or bf16",
        )
        check(
            self.device in ("auto", "cpu", "cuda"),
            f"{self.WHERE}.device",
            self.device,
            "use auto, cpu or cuda",
        )
        for name in ("batch_users", "eval_every", "patience", "threads", "processes"):
            value: int = getattr(self, name)
            check(value >= 1, f"{self.WHERE}.{name}", value, "use at least 1")
        for name in ("warmup_steps", "eval_users"):
            value = getattr(self, name)
            check(value >= 0, f"{self.WHERE}.{name}", value, "use 0 or more")


@dataclass(frozen=True, kw_only=True)
class SASRecTraining(TrainingConfig):
    """How SASRec is trained, alone and as a part of a fusion."""

    WHERE = "sasrec.training"

    epochs: int = 60
    learning_rate: float = 0.002


@dataclass(frozen=True, kw_only=True)
class SASRecConfig:
    """The shape of SASRec (Kang & McAuley, ICDM 2018), for `model.name` sasrec and fusion."""

    dim: int = 64
    layers: int = 2
    heads: int = 2
    ffn: int = 256
    dropout: float = 0.5
    negatives: int = 0  # of a sampled softmax, for catalogues of millions; 0: all items
    training: SASRecTraining = field(default_factory=SASRecTraining)

    def __post_init__(self) -> None:
        _check_transformer(self, "sasrec")
        check(self.negatives >= 0, "sasrec.negatives", self.negatives, "use 0 for all, or more")


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """How items are ranked (docs/decoding.md)."""

    name: str = "auto"  # auto | exhaustive | scan | scan_gpu | graph
    edges: int = 100  # graph: neighbours of an item
    beam: int = 50  # graph: items kept from step to step
    steps: int = 3  # graph

    def __post_init__(self) -> None:
        check(self.name in DECODERS, "decoder.name", self.name, f"use one of {', '.join(DECODERS)}")
        for name in ("edges", "beam", "steps"):
            value: int = getattr(self, name)
            check(value >= 1, f"decoder.{name}", value, "use at least 1")
