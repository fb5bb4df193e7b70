"""What was measured, as JSON can hold it."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any


def make_plain(value: Any) -> Any:
    """Turn dataclasses, mappings and sequences into objects and lists of JSON; what is not a number is null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: make_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: make_plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [make_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
