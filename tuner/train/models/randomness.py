"""Where a model's random numbers come from."""

from typing import NamedTuple

import torch


class Randomness(NamedTuple):
    """The generators of one model; torch's global ones are never used.

    Attributes
    ----------
    weights : torch.Generator
        On the CPU; read while the model is built.
    dropout : torch.Generator
        On the device that the model trains on; kept by its dropout layers, and seeded by whoever trains it.
    """

    weights: torch.Generator
    dropout: torch.Generator
