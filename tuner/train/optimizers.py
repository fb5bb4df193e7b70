"""From gradients to steps: optimizers, the L2 term, and how the learning rate falls.

The arithmetic is that of torch's own functions below its ``Optimizer`` class. The class itself imports
torch's compiler at its first use, which costs every worker a second.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from tuner.spec import hyperparameters as spec

# the paper's and torch's values
ADAM_DECAYS = (0.9, 0.999)
ADAM_EPSILON = 1e-8


def find_weights(model: nn.Module) -> list[nn.Parameter]:
    """Find the weights that are kept small by ``l2`` and by AdamW's ``weight_decay``.

    These are the filters of convolutions and the matrices of dense layers. Biases and the scale and shift of
    batch normalisation are left alone: they add little to what a network can fit, and shrinking them only
    shifts its output.
    """
    return [
        parameter
        for module in model.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
        for name, parameter in module.named_parameters(recurse=False)
        if name == "weight"
    ]


class Sgd:
    """Stochastic gradient descent with momentum.

    Parameters
    ----------
    options : spec.Sgd
        The momentum, and whether it is Nesterov's.
    parameters : iterable of Parameter
        What to train, on its device.

    Notes
    -----
    ----- As in torch, and other than in [1]_, the learning rate multiplies the sum of gradients rather than
    each of them, so that a falling learning rate acts at once.

    References
    ----------
    .. [1] Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013,
       equations 1 to 4.
    """

    def __init__(self, options: spec.Sgd, parameters: Iterable[nn.Parameter]) -> None:
        self._options = options
        self._parameters: list[Tensor] = list(parameters)
        has_momentum = options.momentum > 0
        self._velocities = [torch.zeros_like(one) if has_momentum else None for one in self._parameters]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Take one step, by the gradients that the parameters hold."""
        sgd(
            self._parameters,
            _get_gradients(self._parameters),
            self._velocities,
            fused=True,
            weight_decay=0.0,
            momentum=self._options.momentum,
            lr=learning_rate,
            dampening=0.0,
            nesterov=self._options.nesterov and self._options.momentum > 0,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what the next step depends on, beside the parameters."""
        return {"velocities": [velocity for velocity in self._velocities if velocity is not None]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what another optimizer's ``state_dict`` returned."""
        own = [velocity for velocity in self._velocities if velocity is not None]
        _copy_all(state["velocities"], own)


class AdamW:
    """Adam with decoupled weight decay.

    Parameters
    ----------
    options : spec.AdamW
        The decay, which takes ``learning_rate * weight_decay`` of each weight at each step.
    parameters : iterable of Parameter
        What to train, on its device.
    decayed : iterable of Parameter
        Those of them that decay.

    References
    ----------
    .. [1] Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, arXiv:1711.05101,
       algorithm 2.
    """

    def __init__(
        self, options: spec.AdamW, parameters: Iterable[nn.Parameter], decayed: Iterable[nn.Parameter]
    ) -> None:
        self._parameters: list[Tensor] = list(parameters)
        ids = {id(parameter) for parameter in decayed}
        is_decayed = [id(parameter) in ids for parameter in self._parameters]
        self._groups = [
            (decay, [position for position, answer in enumerate(is_decayed) if answer is asked])
            for decay, asked in ((options.weight_decay, True), (0.0, False))
        ]
        self._means = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._steps = [torch.zeros((), device=parameter.device) for parameter in self._parameters]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Take one step, by the gradients that the parameters hold."""
        for decay, positions in self._groups:
            parameters, means, squares, steps = (
                [tensors[position] for position in positions]
                for tensors in (self._parameters, self._means, self._squares, self._steps)
            )
            adamw(
                parameters,
                _get_gradients(parameters),
                means,
                squares,
                [],
                steps,
                fused=True,
                amsgrad=False,
                beta1=ADAM_DECAYS[0],
                beta2=ADAM_DECAYS[1],
                lr=learning_rate,
                weight_decay=decay,
                eps=ADAM_EPSILON,
                maximize=False,
            )

    def state_dict(self) -> dict[str, Any]:
        """Return what the next step depends on, beside the parameters."""
        return {"means": self._means, "squares": self._squares, "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what another optimizer's ``state_dict`` returned."""
        _copy_all(state["means"], self._means)
        _copy_all(state["squares"], self._squares)
        _copy_all(state["steps"], self._steps)


Optimizer: TypeAlias = Sgd | AdamW


def build_optimizer(hyperparameters: spec.Hyperparameters, model: nn.Module) -> Optimizer:
    """Build the optimizer of one configuration.

    Parameters
    ----------
    hyperparameters : Hyperparameters
        Its ``l2`` is not for the optimizer but for ``add_l2_gradient``, for all of them alike.
    model : Module
        On the device that it will train on.
    """
    options = hyperparameters.optimizer
    if isinstance(options, spec.AdamW):
        return AdamW(options, model.parameters(), find_weights(model))
    return Sgd(options, model.parameters())


def _get_gradients(parameters: Sequence[Tensor]) -> list[Tensor]:
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    assert len(gradients) == len(parameters)
    return gradients


def _copy_all(sources: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source)


@torch.no_grad()
def add_l2_gradient(weights: Sequence[nn.Parameter], l2: float) -> Tensor:
    """Add the L2 term's gradient to the loss's, and measure the term.

    The term is ``l2 / 2`` times the sum of all squared weights, so its gradient is ``l2`` times the weight.

    Parameters
    ----------
    weights : sequence of Parameter, at least one
        What ``find_weights`` found, each with its gradient of the loss.
    l2 : float, at least 0
        The lecture's alpha.

    Returns
    -------
    float tensor without dimensions, in nats
        The term, on the weights' device.
    """
    squares = torch.zeros((), device=weights[0].device)
    if l2 > 0:
        for weight in weights:
            assert weight.grad is not None
            weight.grad.add_(weight, alpha=l2)
            squares += torch.linalg.vector_norm(weight).square()
    return squares * (l2 / 2)


def learning_rate_factor(decay: str, progress: float) -> float:
    """Tell what the first learning rate is multiplied by.

    Parameters
    ----------
    decay : str
        constant; step: a tenth from the middle and a hundredth from three quarters of the steps on; cosine:
        half a cosine from one to zero.
    progress : float, at least 0 and below 1
        The share of all epochs' steps that were taken before this one. The learning rate changes with every
        step rather than epoch, so that a training of one epoch has the whole course too.

    Returns
    -------
    float in [0, 1]
        The last of n steps has a progress of ``(n - 1) / n``: cosine is all but zero there, and at zero right
        after, as a step of length zero would be wasted.

    Raises
    ------
    ValueError
        If there is no such decay.

    References
    ----------
    .. [1] Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017,
       arXiv:1608.03983, equation 5 without restarts.
    """
    if decay == "constant":
        return 1.0
    if decay == "step":
        return 1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01
    if decay == "cosine":
        return (1 + math.cos(math.pi * progress)) / 2
    raise ValueError(f"decay must be constant, step or cosine, got {decay!r}")
