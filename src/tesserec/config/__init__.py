"""The configuration of a run (docs/configuration.md)."""

from tesserec.config.reading import from_dict, load_config, to_dict
from tesserec.config.stages import (
    ClusterConfig,
    DataConfig,
    DecoderConfig,
    EncoderConfig,
    EvaluationConfig,
    FeatureConfig,
    GateConfig,
    ModelConfig,
    RunConfig,
    SASRecConfig,
    SASRecTraining,
    ServingConfig,
    SplitConfig,
    TokenizerConfig,
    TrainingConfig,
)

__all__ = [
    "ClusterConfig",
    "DataConfig",
    "DecoderConfig",
    "EncoderConfig",
    "EvaluationConfig",
    "FeatureConfig",
    "GateConfig",
    "ModelConfig",
    "RunConfig",
    "SASRecConfig",
    "SASRecTraining",
    "ServingConfig",
    "SplitConfig",
    "TokenizerConfig",
    "TrainingConfig",
    "from_dict",
    "load_config",
    "to_dict",
]
