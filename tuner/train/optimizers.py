"""From gradients to steps: optimizers, the L2 term, and what keeps gradients short.

The arithmetic is that of torch's own functions below its ``Optimizer`` class. The class itself imports
torch's compiler at its first use, which costs every worker a second.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.optim.rmsprop import rmsprop
from torch.optim.sgd import sgd

from tuner.spec import hyperparameters as spec
from tuner.train.models.googlenet import DeeplySupervised

# the paper's and torch's values
ADAM_DECAYS = (0.9, 0.999)
ADAM_EPSILON = 1e-8
RMSPROP_EPSILON = 1e-8
MUON_ITERATION = (3.4445, -4.7750, 2.0315)  # the reference's coefficients, steepest at zero
MUON_ITERATIONS = 5
MUON_SCALE = 0.2  # of a step's root mean square beside AdamW's, so that learning rates mean the same in both


def find_weights(model: nn.Module) -> list[nn.Parameter]:
    """Find the weights that are kept small by ``l2`` and by ``weight_decay``.

    These are the filters of convolutions and the matrices of dense and attention layers. Biases, the scale and
    shift of normalisations and the positions of a transformer are left alone: they add little to what a network
    can fit, and shrinking them only shifts its output.
    """
    return [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.ndim >= 2 and name.endswith(("weight", "in_proj_weight"))
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
    As in torch, and other than in [1]_, the learning rate multiplies the sum of gradients rather than
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


class RmsProp:
    """Each gradient over the root of its running mean square.

    Parameters
    ----------
    options : spec.RmsProp
        The smoothing of the mean square, and the momentum.
    parameters : iterable of Parameter
        What to train, on its device.

    References
    ----------
    .. [1] Tieleman and Hinton, "Lecture 6.5 - RMSProp", Neural Networks for Machine Learning, Coursera, 2012.
    """

    def __init__(self, options: spec.RmsProp, parameters: Iterable[nn.Parameter]) -> None:
        self._options = options
        self._parameters: list[Tensor] = list(parameters)
        self._squares = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._velocities = [torch.zeros_like(one) for one in self._parameters] if options.momentum > 0 else []
        self._steps = [torch.zeros(()) for _ in self._parameters]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Take one step, by the gradients that the parameters hold."""
        rmsprop(
            self._parameters,
            _get_gradients(self._parameters),
            self._squares,
            [],
            self._velocities,
            self._steps,
            foreach=True,
            lr=learning_rate,
            alpha=self._options.smoothing,
            eps=RMSPROP_EPSILON,
            weight_decay=0.0,
            momentum=self._options.momentum,
            centered=False,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what the next step depends on, beside the parameters."""
        return {"squares": self._squares, "velocities": self._velocities}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what another optimizer's ``state_dict`` returned."""
        _copy_all(state["squares"], self._squares)
        _copy_all(state["velocities"], self._velocities)


class Muon:
    """Momentum whose matrix is made orthogonal, for hidden layers; AdamW for everything else.

    Parameters
    ----------
    options : spec.Muon
        The momentum, and the decoupled decay of all weights.
    model : Module
        What to train, on its device.

    Notes
    -----
    A filter of shape (out, in, height, width) counts as a matrix of ``out`` rows. The first and the last weight of
    the network, the last one of each auxiliary head, biases and all other vectors are AdamW's, as in the reference.
    The step is scaled so that its root mean square is about AdamW's [2]_: one learning rate serves both parts.

    References
    ----------
    .. [1] Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
    .. [2] Liu et al., "Muon is Scalable for LLM Training", 2025, arXiv:2502.16982, equation 4.
    """

    def __init__(self, options: spec.Muon, model: nn.Module) -> None:
        self._options = options
        weights = find_weights(model)
        heads = [head for module in model.modules() if isinstance(module, DeeplySupervised) for head in module.heads]
        ends = [weights[0], weights[-1], *(find_weights(head)[-1] for head in heads)]
        end_ids = {id(weight) for weight in ends}
        self._hidden: list[Tensor] = [weight for weight in weights if id(weight) not in end_ids]
        ids = {id(parameter) for parameter in self._hidden}
        others = [parameter for parameter in model.parameters() if id(parameter) not in ids]
        self._adamw = AdamW(spec.AdamW(weight_decay=options.weight_decay), others, ends)
        self._velocities = [torch.zeros_like(weight) for weight in self._hidden]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Take one step, by the gradients that the parameters hold."""
        self._adamw.step(learning_rate)
        momentum = self._options.momentum
        for weight, gradient, velocity in zip(
            self._hidden, _get_gradients(self._hidden), self._velocities, strict=True
        ):
            velocity.lerp_(gradient, 1 - momentum)
            ahead = gradient.lerp(velocity, momentum)
            step = orthogonalise(ahead.flatten(1))
            weight.mul_(1 - learning_rate * self._options.weight_decay)
            scale = MUON_SCALE * max(step.shape) ** 0.5
            weight.add_(step.reshape(weight.shape), alpha=-learning_rate * scale)

    def state_dict(self) -> dict[str, Any]:
        """Return what the next step depends on, beside the parameters."""
        return {"velocities": self._velocities, "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what another optimizer's ``state_dict`` returned."""
        _copy_all(state["velocities"], self._velocities)
        self._adamw.load_state_dict(state["adamw"])


def orthogonalise(matrix: Tensor) -> Tensor:
    """Bring all singular values of a matrix near one, by a Newton-Schulz iteration.

    Parameters
    ----------
    matrix : float tensor, shape (rows, columns)
        A zero matrix stays one.

    Returns
    -------
    float tensor, shape (rows, columns)
        The same singular vectors, with singular values from about 0.7 to 1.2.
    """
    a, b, c = MUON_ITERATION
    is_tall = matrix.shape[0] > matrix.shape[1]
    flat = matrix.T if is_tall else matrix
    # bfloat16 is what it needs, and far slower than float32 on most CPUs
    flat = flat.to(torch.bfloat16 if flat.device.type == "cuda" else torch.float32)
    flat = flat / (torch.linalg.vector_norm(flat) + 1e-7)
    for _ in range(MUON_ITERATIONS):
        gram = flat @ flat.T
        flat = a * flat + (b * gram + c * gram @ gram) @ flat
    flat = flat.to(matrix.dtype)
    orthogonal: Tensor = flat.T if is_tall else flat
    return orthogonal


Optimizer: TypeAlias = Sgd | AdamW | RmsProp | Muon


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
    if isinstance(options, spec.RmsProp):
        return RmsProp(options, model.parameters())
    if isinstance(options, spec.Muon):
        return Muon(options, model)
    return Sgd(options, model.parameters())


def measure_norm(tensors: Sequence[Tensor]) -> Tensor:
    """Measure the length of all values of some tensors taken as one vector.

    Returns
    -------
    float tensor without dimensions
        On their device.
    """
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(tensors))))
    return norm


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], longest: float) -> Tensor:
    """Shorten the gradient over all parameters together to a length, if it is longer.

    Parameters
    ----------
    parameters : iterable of Parameter
        Each with its gradient.
    longest : float, above 0
        The length.

    Returns
    -------
    float tensor without dimensions
        Its length before.

    References
    ----------
    .. [1] Pascanu et al., "On the difficulty of training Recurrent Neural Networks", ICML 2013, algorithm 1.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = measure_norm(gradients)
    torch._foreach_mul_(gradients, (longest / (norm + 1e-6)).clamp(max=1.0))
    return norm


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
