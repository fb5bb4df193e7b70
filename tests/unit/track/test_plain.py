"""What was measured, as JSON can hold it."""

import json
import math
from dataclasses import dataclass
from typing import Any

from tuner.track.plain import make_plain


@dataclass
class Measured:
    loss: float
    others: tuple[Any, ...]


def test_what_is_not_a_number_is_null_wherever_it_stands() -> None:
    found = {"best": Measured(math.nan, (1, {"worst": -math.inf}, [Measured(0.5, ())])), "name": "NaN"}
    text = json.dumps(make_plain(found), allow_nan=False)
    assert json.loads(text) == {
        "best": {"loss": None, "others": [1, {"worst": None}, [{"loss": 0.5, "others": []}]]},
        "name": "NaN",
    }
