"""What experiments and deployments are made of: frozen sections, and kinds of their fields."""

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from optduel.components.storage import without_credentials

Slug = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=40)]
"""A name that is also a file name, a URL part and a Kubernetes label."""

Place = Annotated[str, AfterValidator(without_credentials)]
"""A path or a URI."""

Fraction = Annotated[float, Field(ge=0, lt=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
PositiveInt = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A frozen part of the experiment; unknown fields, NaN and infinity are refused."""

    # What was given may hold credentials; messages are ours, and leave them out.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    def canonical_json(self) -> str:
        """Sorted keys, no spaces, no NaN: equal values give equal bytes, hence equal cache keys."""
        return canonical_json(self.model_dump(mode="json"))


def canonical_json(value: Any) -> str:
    """The one JSON text of `value`. Raises ValueError when it holds NaN or infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
