"""The base of everything that a spec is made of."""

from pydantic import BaseModel, ConfigDict


class SpecModel(BaseModel):
    """A frozen record that refuses unknown keys, NaN and infinity, and converts no types but int to float."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
