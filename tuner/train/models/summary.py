"""A network as a table of its layers: shapes, parameters, multiply-adds, memory."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tuner.spec.hyperparameters import Architecture, Hyperparameters
from tuner.train.models import Randomness, build_model

BYTES_A_VALUE = 4


@dataclass(frozen=True)
class LayerSummary:
    """One layer of a network, for one image.

    Attributes
    ----------
    name : str
        Where it stands: names or positions with dots between them, outermost first; empty for the network itself.
    kind : str
        What it is.
    output_shape : tuple of int
        Height, width, channels of a map; length and width of a sequence; length of a vector. Empty if the layer does
        not run in evaluation, as heads that only help while training.
    num_parameters : int
        Weights and biases of its own, those shared with an earlier layer left out.
    num_multiply_adds : int
        Of convolutions, dense layers and attention; zero for all else, and for a layer that does not run.
    memory_bytes : int
        What the output takes in float32; zero where it is another layer's: for Flatten, which looks at its input in
        another shape, and for a module that holds parameters beside the layers inside it.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    num_parameters: int
    num_multiply_adds: int
    memory_bytes: int


def summarise_architecture(
    architecture: Architecture, image_shape: tuple[int, int, int], num_classes: int
) -> tuple[LayerSummary, ...]:
    """Summarise a family's network without computing anything: it is built on the meta device.

    Parameters
    ----------
    architecture : Architecture
        The family with its hyperparameters.
    image_shape : tuple of int
        Height, width, channels.
    num_classes : int
        How many scores come out.

    Returns
    -------
    tuple of LayerSummary
        As of ``summarise``.
    """
    with torch.device("meta"):
        randomness = Randomness(torch.Generator("cpu"), torch.Generator("cpu"))
        model = build_model(Hyperparameters(architecture=architecture), image_shape, num_classes, randomness)
    return summarise(model, image_shape)


def summarise(model: nn.Module, image_shape: tuple[int, int, int]) -> tuple[LayerSummary, ...]:
    """Send one image through a network in evaluation, and list the layers that have parameters or change the shape.

    Parameters
    ----------
    model : Module
        From float (batch, channels, height, width); it is left as it was. On the meta device nothing is computed.
    image_shape : tuple of int
        Height, width, channels.

    Returns
    -------
    tuple of LayerSummary
        The image first, then the layers in the order in which they end, then those with parameters that did not run.
        All parameters of the network are counted, and each once.
    """
    height, width, channels = image_shape
    summaries = [LayerSummary("", "input", image_shape, 0, 0, BYTES_A_VALUE * math.prod(image_shape))]
    counted: set[int] = set()
    names = {module: name for name, module in model.named_modules()}

    def watch(module: nn.Module, inputs: tuple[Any, ...], named_inputs: dict[str, Any], output: Any) -> None:
        before = next(value for value in (*inputs, *named_inputs.values()) if isinstance(value, Tensor))
        after = output if isinstance(output, Tensor) else output[0]
        num_parameters = _count_parameters(module, counted)
        # a module with others inside changes the shape by them, and shows only what it holds itself
        if num_parameters or _has_weights(module) or (_is_leaf(module) and after.shape[1:] != before.shape[1:]):
            multiply_adds = _count_multiply_adds(module, (*inputs, *named_inputs.values()), after)
            has_memory = _is_leaf(module) and not isinstance(module, nn.Flatten)
            memory_bytes = BYTES_A_VALUE * after[0].numel() if has_memory else 0
            layer = (names[module], _describe(module), _describe_shape(after))
            summaries.append(LayerSummary(*layer, num_parameters, multiply_adds, memory_bytes))

    first = next(model.parameters(), None)
    images = torch.zeros((1, channels, height, width), device=None if first is None else first.device)
    with _watched(model, watch), torch.no_grad():
        model(images)
    for name, module in model.named_modules():
        if num_parameters := _count_parameters(module, counted):
            summaries.append(LayerSummary(name, _describe(module), (), num_parameters, 0, 0))
    return tuple(summaries)


@contextmanager
def _watched(model: nn.Module, watch: Callable[..., None]) -> Iterator[None]:
    """Put a network into evaluation and have every module watched; put all back in the end."""
    trained = [module for module in model.modules() if module.training]
    hooks = [module.register_forward_hook(watch, with_kwargs=True) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for module in trained:
            module.training = True


def _is_leaf(module: nn.Module) -> bool:
    """Tell whether a module is a layer; attention is one, since it never calls the dense layer inside it."""
    return isinstance(module, nn.MultiheadAttention) or next(module.children(), None) is None


def _has_weights(module: nn.Module) -> bool:
    return _is_leaf(module) and next(module.parameters(), None) is not None


def _count_parameters(module: nn.Module, counted: set[int]) -> int:
    """Count the module's own parameters that were not counted before, and remember them."""
    own = {id(one): one.numel() for one in module.parameters(recurse=_is_leaf(module)) if id(one) not in counted}
    counted.update(own)
    return sum(own.values())


def _count_multiply_adds(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> int:
    """Count the products of one image that are added up; the addition of a bias counts none."""
    if isinstance(module, nn.Conv2d):
        return output[0].numel() * (module.in_channels // module.groups) * math.prod(module.kernel_size)
    if isinstance(module, nn.Linear):
        return output[0].numel() * module.in_features
    if isinstance(module, nn.MultiheadAttention):
        query, key, value = (one for one in inputs[:3] if isinstance(one, Tensor))
        num_queries, num_keys = (one.shape[1 if module.batch_first else 0] for one in (query, key))
        length: int = module.embed_dim
        projections = 2 * num_queries * length + num_keys * (key.shape[-1] + value.shape[-1])
        return length * (projections + 2 * num_queries * num_keys)
    return 0


def _describe(module: nn.Module) -> str:
    """Name a layer and the size of its filter, if it has one: ``Conv2d 3x3 /2``, the stride last."""
    kind = type(module).__name__.removeprefix("NonDynamicallyQuantizable")
    if not isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        return kind
    side, stride = (one if isinstance(one, tuple) else (one, one) for one in (module.kernel_size, module.stride))
    words = [kind, "x".join(map(str, side))]
    if max(stride) > 1:
        words.append(f"/{'x'.join(map(str, dict.fromkeys(stride)))}")
    if isinstance(module, nn.Conv2d) and module.groups > 1:
        words.append(f"in {module.groups} groups")
    return " ".join(words)


def _describe_shape(output: Tensor) -> tuple[int, ...]:
    """Return the shape of one image's output, channels last as in the data."""
    shape = tuple(output.shape[1:])
    return (*shape[1:], shape[0]) if len(shape) == 3 else shape
