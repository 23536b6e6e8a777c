"""Config: YAML → typed, frozen sections; unknown keys are errors, and all mistakes are named in one go."""

from streamtrain.config.mistakes import ConfigError, Mistake
from streamtrain.config.read import load, load_service, parse, parse_service, to_dict
from streamtrain.config.routers import Service
from streamtrain.config.sections import (
    SECTIONS,
    Config,
    DatasetSection,
    DriftSection,
    GateSection,
    LogSection,
    LogsSection,
    ModelSection,
    ModelsSection,
    PublishSection,
    RouterSection,
    SchemaSection,
    StateSection,
    StatusSection,
    TrainingSection,
    TriggerSection,
    VectorFeatures,
    WebhookTarget,
)

__all__ = [
    "SECTIONS",
    "Config",
    "ConfigError",
    "DatasetSection",
    "DriftSection",
    "GateSection",
    "LogSection",
    "LogsSection",
    "Mistake",
    "ModelSection",
    "ModelsSection",
    "PublishSection",
    "RouterSection",
    "SchemaSection",
    "Service",
    "StateSection",
    "StatusSection",
    "TrainingSection",
    "TriggerSection",
    "VectorFeatures",
    "WebhookTarget",
    "load",
    "load_service",
    "parse",
    "parse_service",
    "to_dict",
]
