"""The configuration of a run (docs/configuration.md)."""

from tesserec.config.models import (
    DecoderConfig,
    ModelConfig,
    SASRecConfig,
    SASRecTraining,
    TrainingConfig,
)
from tesserec.config.reading import from_dict, load_config, to_dict
from tesserec.config.stages import (
    ClusterConfig,
    DataConfig,
    EncoderConfig,
    EvaluationConfig,
    FeatureConfig,
    GateConfig,
    RunConfig,
    ServingConfig,
    SplitConfig,
    TokenizerConfig,
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
