"""The arms: an optimizer with its regularization, and all that the rest of optduel asks of one.

To add an optimizer: a class with its abstract members, its place in `Arm`, and its update in
`components/train/model/optimizers.py`. A class that lacks a member cannot be instantiated.
"""

import difflib
from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from optduel.components.settings.schedules import Schedule
from optduel.components.settings.search import Search
from optduel.components.settings.section import (
    Fraction,
    NonNegativeFloat,
    PositiveFloat,
    Section,
    Slug,
)

Decayed = Annotated[tuple[Literal["kernel", "bias", "normalization"], ...], Field(min_length=1)]


class BaseArm(Section):
    """What every arm has.

    Attributes:
        name: how the arm is called in tasks, plots and the verdict.
        learning_rate: schedule over the run.
        decayed: the kinds of variables that L2 or decay applies to; kernels only unless asked.
        search: ranges that tuning looks for this arm's setting in, by the path of a numeric field of the arm
            or of its schedule: "l2", "learning_rate.base". What is typed in holds for all other fields.
    """

    name: Slug
    learning_rate: Schedule
    decayed: Decayed = ("kernel",)
    search: Search = {}

    @model_validator(mode="after")
    def _searchable(self) -> Self:
        known = self.numbers
        for path, range_ in self.search.items():
            if path not in known:
                close = difflib.get_close_matches(path, known, n=1)
                close += [one for one in known if one.endswith(f".{path}")]
                remedy = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
                raise ValueError(f"search.{path}: the arm has no such number; {remedy}")
            for end in range_.ends:
                try:
                    self.with_setting({path: end})
                except ValidationError as error:
                    rule = error.errors()[0]["msg"].replace("Input should", "the field must")
                    raise ValueError(f"search.{path} reaches {end:g}: {rule}") from error
        return self

    @property
    def numbers(self) -> dict[str, float]:
        """The numeric fields that can be searched, those of the schedule included, by path."""
        own = _numbers(self)
        return own | {f"learning_rate.{name}": value for name, value in _numbers(self.learning_rate).items()}

    def with_setting(self, setting: Mapping[str, float]) -> Self:
        """The arm with these values in place of those typed in, and nothing to search.

        Args:
            setting: values by path; an empty one only ends the search.

        Raises:
            pydantic.ValidationError: a value breaks a rule of its field.
        """
        fields: dict[str, Any] = self.model_dump(mode="json", exclude={"search"})
        for path, value in setting.items():
            *section, name = path.split(".")
            (fields[section[0]] if section else fields)[name] = value
        return self.model_validate(fields)

    @property
    @abstractmethod
    def coupled_l2(self) -> float:
        """Keras' L2 coefficient: training adds coupled_l2 * sum(w^2) to the loss."""

    @property
    @abstractmethod
    def decoupled_decay(self) -> float:
        """Each step multiplies a decayed weight by 1 - learning rate * decoupled_decay."""

    @property
    @abstractmethod
    def decay_field(self) -> Literal["l2", "weight_decay"]:
        """The field that states the decay."""

    @property
    @abstractmethod
    def equivalent_decay(self) -> float | None:
        """The decoupled coefficient that acts like the arm's decay; None where there is none."""

    @property
    @abstractmethod
    def decay_note(self) -> str:
        """Why `equivalent_decay` is missing or approximate; empty when nothing is to say."""

    @property
    @abstractmethod
    def title(self) -> str:
        """The optimizer for people."""

    @property
    @abstractmethod
    def settings_text(self) -> str:
        """Its own settings for people, without learning rate and decay."""


def _numbers(section: Section) -> dict[str, float]:
    values = {name: getattr(section, name) for name in type(section).model_fields}
    return {name: value for name, value in values.items() if type(value) in (int, float)}


class _Momentum(BaseArm):
    momentum: Fraction = 0.9
    nesterov: bool = False

    @property
    def settings_text(self) -> str:
        """Momentum and its kind."""
        return f"{'Nesterov ' if self.nesterov else ''}momentum {self.momentum:g}"


class _Adaptive(BaseArm):
    beta_1: Fraction = 0.9
    beta_2: Fraction = 0.999
    epsilon: PositiveFloat = 1e-7

    @property
    def settings_text(self) -> str:
        """The moments' settings."""
        return f"β₁ {self.beta_1:g}, β₂ {self.beta_2:g}, ε {self.epsilon:g}"


class _Coupled(BaseArm):
    """`l2` is Keras' coefficient: it adds l2 * sum(w^2) to the loss, hence 2 * l2 * w to the gradient."""

    l2: NonNegativeFloat = 0

    @property
    def coupled_l2(self) -> float:
        """As stated."""
        return self.l2

    @property
    def decoupled_decay(self) -> float:
        """None."""
        return 0.0

    @property
    def decay_field(self) -> Literal["l2", "weight_decay"]:
        """Its name."""
        return "l2"


class _Decoupled(BaseArm):
    """`weight_decay` is Keras' and torch's: each step multiplies w by 1 - learning_rate * weight_decay."""

    weight_decay: NonNegativeFloat = 0

    @property
    def coupled_l2(self) -> float:
        """None."""
        return 0.0

    @property
    def decoupled_decay(self) -> float:
        """As stated."""
        return self.weight_decay

    @property
    def decay_field(self) -> Literal["l2", "weight_decay"]:
        """Its name."""
        return "weight_decay"

    @property
    def equivalent_decay(self) -> float | None:
        """Itself."""
        return self.weight_decay

    @property
    def decay_note(self) -> str:
        """It is exact."""
        return ""


class SgdArm(_Momentum, _Coupled):
    """SGD with momentum; L2 through the gradient."""

    optimizer: Literal["sgd"] = "sgd"

    @property
    def equivalent_decay(self) -> float | None:
        """Of momentum m, asymptotically: 2 * l2 / (1 - m)."""
        return 2 * self.l2 / (1 - self.momentum)

    @property
    def decay_note(self) -> str:
        """Momentum starts late."""
        is_approximate = self.l2 and self.momentum
        return "decoupled equivalent holds asymptotically under momentum" if is_approximate else ""

    @property
    def title(self) -> str:
        """With L2 only where it has some."""
        return "SGD + L2" if self.l2 else "SGD"


class SgdwArm(_Momentum, _Decoupled):
    """SGDW, Algorithm 1 of arXiv 1711.05101: SGD with momentum and decoupled decay."""

    optimizer: Literal["sgdw"] = "sgdw"

    @property
    def title(self) -> str:
        """The paper's name."""
        return "SGDW"


class AdamArm(_Adaptive, _Coupled):
    """Adam; L2 through the gradient, hence through the moments."""

    optimizer: Literal["adam"] = "adam"

    @property
    def equivalent_decay(self) -> float | None:
        """None where there is L2: proposition 2 of arXiv 1711.05101."""
        return None if self.l2 else 0.0

    @property
    def decay_note(self) -> str:
        """The proposition."""
        return "under Adam no decoupled decay equals L2 (arXiv 1711.05101, proposition 2)" if self.l2 else ""

    @property
    def title(self) -> str:
        """With L2 only where it has some."""
        return "Adam + L2" if self.l2 else "Adam"


class AdamwArm(_Adaptive, _Decoupled):
    """AdamW, Algorithm 2 of arXiv 1711.05101: Adam with decoupled decay."""

    optimizer: Literal["adamw"] = "adamw"

    @property
    def title(self) -> str:
        """The paper's name."""
        return "AdamW"


Arm = Annotated[SgdArm | SgdwArm | AdamArm | AdamwArm, Field(discriminator="optimizer")]
