"""What experiments and deployments are made of: frozen sections, and kinds of their fields."""

import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Slug = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=40)]
"""A name that is also a file name, a URL part and a Kubernetes label."""

Fraction = Annotated[float, Field(ge=0, lt=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
PositiveInt = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A frozen part of the experiment; unknown fields, NaN and infinity are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def canonical_json(self) -> str:
        """Sorted keys, no spaces, no NaN: equal values give equal bytes, hence equal cache keys."""
        return canonical_json(self.model_dump(mode="json"))


def canonical_json(value: Any) -> str:
    """The one JSON text of `value`. Raises ValueError when it holds NaN or infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
