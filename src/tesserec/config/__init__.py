"""The configuration of a run (docs/configuration.md)."""

from tesserec.config.change import ChangeSettings
from tesserec.config.models import (
    DecoderConfig,
    ModelConfig,
    SASRecConfig,
    SASRecTraining,
    TrainingConfig,
)
from tesserec.config.reading import (
    change_config,
    from_dict,
    load_config,
    load_serve_settings,
    serve_settings,
    to_dict,
)
from tesserec.config.retokenization import RetokenizationConfig, TuningConfig
from tesserec.config.serving import LimitSettings, LookupSettings, ServeSettings, TLSSettings
from tesserec.config.sight import ExposureSettings, TraceSettings
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
    "ChangeSettings",
    "ClusterConfig",
    "DataConfig",
    "DecoderConfig",
    "EncoderConfig",
    "EvaluationConfig",
    "ExposureSettings",
    "FeatureConfig",
    "GateConfig",
    "LimitSettings",
    "LookupSettings",
    "ModelConfig",
    "RetokenizationConfig",
    "RunConfig",
    "SASRecConfig",
    "SASRecTraining",
    "ServeSettings",
    "ServingConfig",
    "SplitConfig",
    "TLSSettings",
    "TokenizerConfig",
    "TraceSettings",
    "TrainingConfig",
    "TuningConfig",
    "change_config",
    "from_dict",
    "load_config",
    "load_serve_settings",
    "serve_settings",
    "to_dict",
]
