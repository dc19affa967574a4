"""How a champion, the model in use, is retrained: what moves it, and when data is not what it should be.

Changes no numbers of a trial, and is no part of an experiment's fingerprint.
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from optduel.components.settings.section import (
    Fraction,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Section,
    Slug,
)
from optduel.components.storage import without_credentials


class Gate(Section):
    """The rule by which a candidate replaces the champion; every criterion has to pass.

    Candidate and champion are compared image by image on the test images of today that the champion was not
    trained on.

    Attributes:
        rule: "non_inferior": the candidate is not worse by `margin` or more; "superior": it is better. Either
            has to be shown at the level `confidence`, one-sided for the former, two-sided for the latter.
        metric: that the rule is about. The exact McNemar test decides on accuracy, a bootstrap over images
            on the others.
        margin: of `non_inferior`, in units of the metric: 0.02 is two points of accuracy or macro F1, or 0.02
            nat of cross-entropy.
        confidence: level of tests and intervals.
        smallest_test: refuses to judge by fewer images.
        class_floor: how much of its recall a class may lose, as a fraction of 1; more is refused where it
            is beyond noise. None for no floor.
        calibration_limit: the largest expected calibration error that the candidate may have. None for any.
        new_classes: "refuse" a candidate that knows a class that the champion does not, until a person has
            decided; or "accept" it: the rule is about the classes that both know.
        gone_classes: the same for a class that the champion knows and today's images do not have.
    """

    rule: Literal["non_inferior", "superior"] = "non_inferior"
    metric: Literal["accuracy", "cross_entropy", "macro_f1"] = "accuracy"
    margin: PositiveFloat = 0.02
    confidence: Annotated[float, Field(gt=0.5, le=0.999)] = 0.95
    smallest_test: PositiveInt = 100
    class_floor: Annotated[float, Field(gt=0, le=1)] | None = 0.1
    calibration_limit: Annotated[float, Field(gt=0, le=1)] | None = None
    new_classes: Literal["refuse", "accept"] = "refuse"
    gone_classes: Literal["refuse", "accept"] = "refuse"


class Registry(Section):
    """Where a champion is registered.

    Attributes:
        kind: "mlflow": a server of MLflow, over its REST API; "kubeflow": Kubeflow's Model Registry.
        address: of the server, without credentials: a secret sets MLFLOW_TRACKING_TOKEN, or
            MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; for Kubeflow's MODEL_REGISTRY_TOKEN, where
            it wants one.
        model: name of the registered model.
    """

    kind: Literal["mlflow", "kubeflow"] = "mlflow"
    address: Annotated[str, Field(pattern=r"^https?://[^\s/]+"), AfterValidator(without_credentials)]
    model: Annotated[str, Field(min_length=1, max_length=200)]


class Retraining(Section):
    """What a run of the experiment does for a champion, instead of comparing the arms only.

    Attributes:
        champion: its name, unique below the root.
        mode: "candidate" trains one: the champion's arm with its settings, or those of the experiment where
            it has changed; it tunes nothing. "study" runs the whole comparison, tuning included, whose better
            arm is the candidate.
        arm: that is trained while there is no champion; the experiment's first unless given.
        seeds: of the trials of a candidate; the one that is best on the validation split is judged.
        gate: the rule that moves the champion.
        force: trains although nothing has changed since the champion was trained.
        largest_shrink: fails where the images are fewer than the champion's by a larger share.
        late_days: fails where the same images are found for more days; any number when absent.
        registry: gets every champion, marked as such; needs a root in a store.
    """

    champion: Slug
    mode: Literal["candidate", "study"] = "candidate"
    arm: str | None = None
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1, max_length=100)
    ] = (
        0,
        1,
        2,
    )
    gate: Gate = Gate()
    force: bool = False
    largest_shrink: Fraction = 0.2
    late_days: PositiveFloat | None = None
    registry: Registry | None = None

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("must differ from each other: a repeated seed gives the same model")
        return seeds

    @model_validator(mode="after")
    def _one_choice_of_arms(self) -> Self:
        if self.mode == "study" and self.arm is not None:
            raise ValueError(
                "arm is set, but mode study trains all arms; leave it out, or take mode candidate"
            )
        return self


class Prices(Section):
    """What a run's time costs, in one currency.

    Attributes:
        currency: shown with every sum.
        processor_hour: of one processor.
        accelerator_hour: of one accelerator.
    """

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    processor_hour: NonNegativeFloat = 0.0
    accelerator_hour: NonNegativeFloat = 0.0
