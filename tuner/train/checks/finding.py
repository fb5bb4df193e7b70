"""What a check found."""

import math
from dataclasses import dataclass
from typing import Literal

Status = Literal["pass", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One line of a check.

    Attributes
    ----------
    subject : str
        The network, or ``data``.
    check : str
        What was looked at.
    status : str
        pass; warn: it may be meant so; fail: it cannot be right.
    value : float
        The number that was measured; NaN where there is none.
    bound : str
        What it should be.
    text : str
        What was found, for people.
    advice : str
        What to do; empty where it passes.
    """

    subject: str
    check: str
    status: Status
    value: float = math.nan
    bound: str = ""
    text: str = ""
    advice: str = ""


def judge(value: float, *, warn: bool, fail: bool) -> Status:
    """Say what a number means; one that is not finite fails."""
    return "fail" if fail or not math.isfinite(value) else "warn" if warn else "pass"
