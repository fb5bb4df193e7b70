"""An exponential moving average of a network's weights."""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn


class WeightAverage:
    """The average of a network's weights and of its running statistics over the steps of its training.

    Parameters
    ----------
    model : Module
        What is averaged, on its device.
    share : float, at least 0 and below 1
        Share of the average that a step keeps; 0 for no average at all.

    Notes
    -----
    Early steps count more, or the average would be of the first random weights for long: after ``t`` steps the share
    kept is at most ``(1 + t) / (10 + t)``.

    References
    ----------
    .. [1] Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM Journal on Control and
       Optimization 30(4), 1992; with the exponential weights of Tarvainen and Valpola, "Mean teachers are better role
       models", NeurIPS 2017, arXiv:1703.01780.
    """

    def __init__(self, model: nn.Module, share: float) -> None:
        self._share = share
        values = [*model.parameters(), *model.buffers()] if share > 0 else []
        self._current = [value for value in values if value.is_floating_point()]
        self._average = [value.detach().clone() for value in self._current]
        self._steps = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        if self._average:
            self._steps += 1
            kept = min(self._share, (1 + self._steps) / (10 + self._steps))
            torch._foreach_lerp_(self._average, [value.detach() for value in self._current], 1 - kept)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Let the network have the average instead of its weights within the block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for value, average in zip(self._current, self._average, strict=True):
            value.data, average.data = average.data, value.data

    def state_dict(self) -> dict[str, Sequence[Tensor] | int]:
        """Return what the next step depends on."""
        return {"average": self._average, "steps": self._steps}

    def load_state_dict(self, state: dict[str, Sequence[Tensor] | int]) -> None:
        """Take over what another average's ``state_dict`` returned."""
        average, steps = state["average"], state["steps"]
        assert not isinstance(average, int)
        assert isinstance(steps, int)
        for own, other in zip(self._average, average, strict=True):
            own.copy_(other)
        self._steps = steps
