"""Config: YAML → typed, frozen sections; unknown keys are errors, and all mistakes are named in one go."""

from streamtrain.config.mistakes import ConfigError, Mistake
from streamtrain.config.read import load, parse, to_dict
from streamtrain.config.sections import (
    SECTIONS,
    Config,
    DatasetSection,
    GateSection,
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
    "GateSection",
    "LogsSection",
    "Mistake",
    "ModelSection",
    "ModelsSection",
    "PublishSection",
    "RouterSection",
    "SchemaSection",
    "StateSection",
    "StatusSection",
    "TrainingSection",
    "TriggerSection",
    "VectorFeatures",
    "WebhookTarget",
    "load",
    "parse",
    "to_dict",
]
