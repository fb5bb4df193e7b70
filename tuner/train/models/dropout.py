"""Dropout whose random numbers come from a generator that is passed in."""

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Inverted dropout: while training, drop units and scale up the others, so that the expectation stays.

    Parameters
    ----------
    probability : float, at least 0 and below 1
        With which a unit is dropped.
    generator : torch.Generator
        On the device of the model; seeded by the owner. It is shared, and no part of the model's state.

    References
    ----------
    .. [1] Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 15,
       2014, section 10 for the scaling while training.
    """

    def __init__(self, probability: float, generator: torch.Generator) -> None:
        super().__init__()
        self.probability = probability
        self.generator = generator

    def forward(self, units: Tensor) -> Tensor:
        """Drop units of any shape; in evaluation, return them as they are."""
        if not self.training or self.probability == 0:
            return units
        kept = 1 - self.probability
        scale = torch.empty_like(units).bernoulli_(kept, generator=self.generator).div_(kept)
        return units * scale

    def extra_repr(self) -> str:
        """Say the probability."""
        return f"probability={self.probability}"
