"""What an experiment and a deployment are, and what their values mean."""

from optduel.components.settings.alerting import (
    ALERT_VARIABLES,
    APPRISE_VARIABLE,
    WEBHOOKS_VARIABLE,
    Alerts,
    Event,
)
from optduel.components.settings.arms import AdamArm, AdamwArm, Arm, SgdArm, SgdwArm
from optduel.components.settings.authoring import (
    MAX_CHARACTERS,
    decode,
    json_schema,
    load_fields,
    parse_deployment,
    parse_experiment,
    validate,
)
from optduel.components.settings.cautions import (
    cautions,
    oversized_batch,
    refuse_misplaced,
    seeds_needed,
    study_cautions,
)
from optduel.components.settings.decay import Decay, convert, learning_rates
from optduel.components.settings.deployment import (
    REPLACED_BY_PIPELINES,
    USER,
    WORKER_PORT,
    Deployment,
    Job,
    Resources,
    image_reference,
)
from optduel.components.settings.experiment import (
    Compute,
    Data,
    Experiment,
    Split,
    Study,
    Training,
)
from optduel.components.settings.image_sources import (
    TABLE_SUFFIXES,
    DigitsSource,
    FolderSource,
    Source,
    TableSource,
    TfdsSource,
)
from optduel.components.settings.networks import (
    CnnModel,
    LinearModel,
    Model,
    ResnetModel,
    TutorialCnnModel,
)
from optduel.components.settings.recipe import Augmentation, EarlyStopping
from optduel.components.settings.retraining import Gate, Prices, Retraining
from optduel.components.settings.schedules import (
    ConstantSchedule,
    CosineSchedule,
    ExponentialSchedule,
    Schedule,
    StepSchedule,
    learning_rate,
    steps_per_epoch,
)
from optduel.components.settings.search import ListRange, Range
from optduel.components.settings.section import Section, canonical_json
from optduel.components.settings.tuning import Tuning, settings_of

__all__ = [
    "ALERT_VARIABLES",
    "APPRISE_VARIABLE",
    "AdamArm",
    "AdamwArm",
    "Alerts",
    "Arm",
    "Augmentation",
    "CnnModel",
    "Compute",
    "ConstantSchedule",
    "CosineSchedule",
    "Data",
    "Decay",
    "Deployment",
    "DigitsSource",
    "Event",
    "EarlyStopping",
    "Experiment",
    "ExponentialSchedule",
    "FolderSource",
    "Gate",
    "Job",
    "LinearModel",
    "ListRange",
    "MAX_CHARACTERS",
    "Model",
    "REPLACED_BY_PIPELINES",
    "Prices",
    "Range",
    "ResnetModel",
    "Resources",
    "Retraining",
    "Schedule",
    "Section",
    "SgdArm",
    "SgdwArm",
    "Source",
    "Split",
    "StepSchedule",
    "Study",
    "TABLE_SUFFIXES",
    "TableSource",
    "TfdsSource",
    "Training",
    "Tuning",
    "TutorialCnnModel",
    "USER",
    "WEBHOOKS_VARIABLE",
    "WORKER_PORT",
    "canonical_json",
    "cautions",
    "convert",
    "decode",
    "image_reference",
    "json_schema",
    "learning_rate",
    "learning_rates",
    "oversized_batch",
    "load_fields",
    "parse_deployment",
    "parse_experiment",
    "refuse_misplaced",
    "seeds_needed",
    "settings_of",
    "steps_per_epoch",
    "study_cautions",
    "validate",
]
