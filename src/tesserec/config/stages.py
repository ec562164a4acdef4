"""What a run is told: one frozen dataclass a stage, checked when it is made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tesserec.config.checks import check
from tesserec.config.models import DecoderConfig, ModelConfig, SASRecConfig, TrainingConfig
from tesserec.config.retokenization import RetokenizationConfig

SOURCES = ("generated", "folder", "tesserec", "movielens", "amazon2014", "amazon2023")
WINDOWS_DAYS = (1, 7, 30)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where interactions and items come from (docs/data.md)."""

    source: str = "generated"
    path: str = ""  # folder of the source; relative to the YAML's folder
    interactions: str = ""  # folder source: file name or glob inside `path`
    items: str = ""  # folder source; empty: items are made of the interactions' ids
    # {interactions: {our name: their name}, items: {...}}
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    list_separator: str = "|"  # between category paths in CSV
    time_unit: str = "auto"  # s | ms | us | iso | auto
    generated_users: int = 3000
    generated_items: int = 1200
    generated_novel: float = 0.0  # share of the categories that open late in the year
    max_bad_share: float = 0.05  # more quarantined rows than this share stops the run

    def __post_init__(self) -> None:
        check(
            self.source in SOURCES, "data.source", self.source, f"use one of {', '.join(SOURCES)}"
        )
        check(
            self.time_unit in ("auto", "s", "ms", "us", "iso"),
            "data.time_unit",
            self.time_unit,
            "use auto, s, ms, us or iso",
        )
        check(
            0 <= self.generated_novel <= 0.5,
            "data.generated_novel",
            self.generated_novel,
            "use a share from 0 to 0.5",
        )
        check(0 <= self.max_bad_share <= 1, "data.max_bad_share", self.max_bad_share, "use 0 to 1")
        check(
            self.source == "generated" or bool(self.path),
            "data.path",
            self.path,
            "name the folder of the data",
        )


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """Which events train, which validate, which test."""

    protocol: str = "leave_one_out"  # leave_one_out (papers) | time (nightly runs)
    train_share: float = 0.9  # time: share of events before the cut; half of the rest validates

    def __post_init__(self) -> None:
        check(
            self.protocol in ("leave_one_out", "time"),
            "split.protocol",
            self.protocol,
            "use leave_one_out or time",
        )
        check(
            0 < self.train_share < 1,
            "split.train_share",
            self.train_share,
            "use a share between 0 and 1",
        )


@dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """The Beam jobs."""

    history_length: int = 50
    seen_limit: int = 1000
    windows_days: tuple[int, ...] = WINDOWS_DAYS
    runner: str = "FnApiRunner"
    runner_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check(
            self.history_length >= 1,
            "features.history_length",
            self.history_length,
            "use at least 1",
        )
        check(
            self.seen_limit >= self.history_length,
            "features.seen_limit",
            self.seen_limit,
            "use at least history_length",
        )
        check(
            self.windows_days == WINDOWS_DAYS,
            "features.windows_days",
            list(self.windows_days),
            f"use {list(WINDOWS_DAYS)}: feature_repo/views.py and the releases have these fields",
        )


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Item content -> vectors -> whitened principal components."""

    name: str = "lsa"  # lsa | sentence | precomputed
    model: str = ""  # sentence: name or folder of a sentence-transformers model
    # precomputed: .npy (rows as in the items file) or .parquet (item_id, vector), below data.path
    vectors: str = ""
    lsa_dim: int = 256
    pca_dim: int = 128

    def __post_init__(self) -> None:
        check(
            self.name != "sentence" or bool(self.model),
            "encoder.model",
            self.model,
            "name a model or its folder",
        )
        check(
            self.name != "precomputed" or bool(self.vectors),
            "encoder.vectors",
            self.vectors,
            "name the file of vectors",
        )
        for name in ("lsa_dim", "pca_dim"):
            value: int = getattr(self, name)
            check(value >= 1, f"encoder.{name}", value, "use at least 1")


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """Vectors -> codes."""

    name: str = "opq"  # opq | rqkmeans | given
    digits: int = 32
    codebook_size: int = 256
    iterations: int = 25  # opq: of the rotation; rqkmeans: of k-means, each level
    codes: str = ""  # given: .npy of whole numbers (rows as in the items file), below data.path

    def __post_init__(self) -> None:
        check(
            self.name != "given" or bool(self.codes),
            "tokenizer.codes",
            self.codes,
            "name the file of codes",
        )
        check(1 <= self.digits <= 512, "tokenizer.digits", self.digits, "use 1 to 512")
        check(
            2 <= self.codebook_size <= 65536,
            "tokenizer.codebook_size",
            self.codebook_size,
            "use 2 to 65536",
        )


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Full ranking over all items, seen items kept and dropped."""

    users: int = 0  # 0: all
    bootstrap: int = 1000

    def __post_init__(self) -> None:
        check(
            self.users >= 0, "evaluation.users", self.users, "use 0 for all, or a number of users"
        )
        check(
            self.bootstrap >= 100,
            "evaluation.bootstrap",
            self.bootstrap,
            "use at least 100 resamples",
        )


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """When a release may be promoted (docs/gates.md)."""

    max_loss: float = 0.01  # Recall@10 may fall by this share, at the lower bound
    max_slice_loss: float = 0.05
    min_rows: int = 100  # floor of interactions; an empty table never passes

    def __post_init__(self) -> None:
        for name in ("max_loss", "max_slice_loss"):
            value: float = getattr(self, name)
            check(0 <= value <= 1, f"gates.{name}", value, "use a share from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class ServingConfig:
    """The rehearsal; how the server batches stands in serving/models/recommend/config.pbtxt."""

    rehearsal_users: int = 100
    threads: int = 1  # of torch, in the server

    def __post_init__(self) -> None:
        for name in ("rehearsal_users", "threads"):
            value: int = getattr(self, name)
            check(value >= 1, f"serving.{name}", value, "use at least 1")


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """What the compiled pipeline asks of a cluster; the local runner ignores it."""

    gpu_count: int = 1
    gpu_type: str = "nvidia.com/gpu"
    node_selector: Mapping[str, str] = field(default_factory=lambda: {"accelerator": "nvidia"})
    shared_memory: str = "8Gi"
    retries: int = 2  # of steps that are harmless to repeat

    def __post_init__(self) -> None:
        check(self.gpu_count >= 1, "cluster.gpu_count", self.gpu_count, "use at least 1")
        check(self.retries >= 0, "cluster.retries", self.retries, "use 0 or more")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything a run is told."""

    name: str = "run"
    seed: int = 1
    data: DataConfig = field(default_factory=DataConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    feature_store: str = "feature_store.yaml"  # file of feature_repo/
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    sasrec: SASRecConfig = field(default_factory=SASRecConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    gates: GateConfig = field(default_factory=GateConfig)
    serving: ServingConfig = field(default_factory=ServingConfig)
    retokenization: RetokenizationConfig = field(default_factory=RetokenizationConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)

    def __post_init__(self) -> None:
        check(
            bool(re.fullmatch(r"[\w][\w .-]*", self.name)),
            "name",
            self.name,
            "use letters, digits, '.', '-' and '_': it is part of a folder's name",
        )
        check(self.seed >= 0, "seed", self.seed, "use 0 or more")
        check(
            self.decoder.name in ("auto", "exhaustive") or self.model.name == "rpg",
            "decoder.name",
            self.decoder.name,
            f"use auto or exhaustive: {self.model.name} isn't decoded by codes alone",
        )
        check(
            self.encoder.pca_dim % self.tokenizer.digits == 0 or self.tokenizer.name != "opq",
            "encoder.pca_dim",
            self.encoder.pca_dim,
            f"use a multiple of tokenizer.digits ({self.tokenizer.digits}), or tokenizer.name="
            "rqkmeans",
        )
