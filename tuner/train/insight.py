"""What a network looks like from inside, for whoever draws it: histograms, filters, its graph, an embedding."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from tuner.train.loop import Trainer

BINS = 40
MOST_EMBEDDED = 1000  # images; the projector draws no more with ease
BATCH = 100
MOST_FILTERS = 64
ENLARGED = 48  # pixels, the least side of a filter as it is drawn


class Histogram(NamedTuple):
    """How values are spread.

    Attributes
    ----------
    edges : float64 array, shape (bins,)
        The upper end of each bin.
    counts : float64 array, shape (bins,)
        Values in each bin.
    low, high : float
        The least and the greatest value.
    total, total_of_squares : float
        Sums over all values.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.float64]
    low: float
    high: float
    total: float
    total_of_squares: float


class GraphNode(NamedTuple):
    """One step of a network: a layer, or a function between layers.

    Attributes
    ----------
    name : str
        Where it stands, outermost first, with slashes between.
    kind : str
        What it does.
    inputs : tuple of str
        The names of those whose output it takes.
    about : str
        Its settings, as torch writes them.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    about: str


class Embedding(NamedTuple):
    """Validation images as the layer before the last sees them.

    Attributes
    ----------
    vectors : float32 array, shape (num_images, length)
        What the last dense layer takes.
    labels : list of str, length num_images
        Their classes.
    found : list of str, length num_images
        What the network takes them for.
    images : uint8 array, shape (num_images, height, width, channels)
        Themselves.
    """

    vectors: NDArray[np.float32]
    labels: list[str]
    found: list[str]
    images: NDArray[np.uint8]


def measure_histograms(trainer: Trainer) -> Iterator[tuple[str, Histogram]]:
    """Spread out each tensor of weights, and its gradient in the latest step, L2 term included.

    Yields
    ------
    str, Histogram
        ``weights/NAME`` and ``gradients/NAME``; nothing for a tensor without a finite value.
    """
    for name, weights in trainer.classifier.network.named_parameters():
        tag = name.replace(".", "/")
        for what, values in (("weights", weights.detach()), ("gradients", weights.grad)):
            if values is not None and (histogram := spread(values)) is not None:
                yield f"{what}/{tag}", histogram


def spread(values: Tensor) -> Histogram | None:
    """Count the finite values of a tensor in bins of equal width, on its device; None if it has none."""
    flat = values.float().flatten()
    flat = flat[torch.isfinite(flat)]
    if not len(flat):
        return None
    low, high = (float(end) for end in torch.aminmax(flat))
    end = high if high > low else low + max(abs(low), 1.0) * 1e-6  # one value alone needs a bin that has a width
    counts = torch.histc(flat, BINS, low, end).double().cpu().numpy()
    edges = np.linspace(low, end, BINS + 1)[1:]
    return Histogram(edges, counts, low, high, float(flat.double().sum()), float(flat.double().square().sum()))


def draw_filters(network: nn.Module) -> NDArray[np.uint8] | None:
    """Draw the filters of the first convolution as a grid.

    Returns
    -------
    uint8 array, shape (height, width, 3), or None
        Each filter by itself from black to white, in colour where it takes three channels, and the mean over channels
        where it takes another number; None for a network without convolutions.
    """
    first = next((layer for layer in network.modules() if isinstance(layer, nn.Conv2d)), None)
    if first is None:
        return None
    filters = first.weight.detach().float().cpu().numpy()[:MOST_FILTERS].transpose(0, 2, 3, 1)
    filters = filters if filters.shape[-1] in {1, 3} else filters.mean(axis=-1, keepdims=True)
    low, high = filters.min(axis=(1, 2, 3), keepdims=True), filters.max(axis=(1, 2, 3), keepdims=True)
    with np.errstate(invalid="ignore"):  # of a training that diverged
        shades = np.nan_to_num(255 * (filters - low) / np.maximum(high - low, 1e-12)).astype(np.uint8)
    factor = math.ceil(ENLARGED / max(shades.shape[1:3]))
    shades = shades.repeat(factor, axis=1).repeat(factor, axis=2)
    return _tile(np.broadcast_to(shades, (*shades.shape[:3], 3)), gap=2)


def _tile(images: NDArray[np.uint8], gap: int = 0) -> NDArray[np.uint8]:
    """Lay images of one size out on a grid that is about as wide as high, row by row."""
    number, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(number))
    rows = math.ceil(number / columns)
    grid = np.zeros((rows * (height + gap), columns * (width + gap), channels), np.uint8)
    for i, image in enumerate(images):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        grid[top : top + height, left : left + width] = image
    return grid


def draw_sprite(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay images out as the projector wants them: on a square grid, row by row.

    Returns
    -------
    uint8 array, shape (height, width, 3)
        The grid.
    """
    grey = images if images.shape[-1] == 3 else np.broadcast_to(images[..., :1], (*images.shape[:3], 3))
    columns = math.ceil(math.sqrt(len(images)))
    missing = np.zeros((columns**2 - len(images), *grey.shape[1:]), np.uint8)
    return _tile(np.concatenate([grey, missing]))


def trace_graph(network: nn.Module) -> list[GraphNode]:
    """Follow what a network does to an image, in evaluation.

    Raises
    ------
    TraceError
        If it does different things to different images, as the histograms of gradients do.
    """
    was_training = network.training
    network.eval()
    try:
        graph = fx.symbolic_trace(network).graph
    finally:
        network.train(was_training)
    modules = dict(network.named_modules())
    names: dict[fx.Node, str] = {}
    nodes: list[GraphNode] = []
    for node in graph.nodes:
        scopes = [path for path, _ in node.meta.get("nn_module_stack", {}).values()]
        inside = _name_scope(modules, scopes[-1] if scopes else "")
        is_layer = node.op == "call_module"
        names[node] = inside if is_layer else f"{inside}/{node.name}".removeprefix("/")
        if names[node] in {other.name for other in nodes}:  # one layer may be used twice
            names[node] = f"{names[node]}_{node.name}"
        layer = modules[str(node.target)] if is_layer else None
        kind = type(layer).__name__ if layer is not None else node.op
        kind = str(getattr(node.target, "__name__", node.target)) if node.op.startswith("call_") and not layer else kind
        inputs = tuple(names[one] for one in node.all_input_nodes)
        nodes.append(GraphNode(names[node], kind, inputs, layer.extra_repr() if layer is not None else ""))
    return nodes


def _name_scope(modules: dict[str, nn.Module], path: str) -> str:
    """Name a module by where it stands and what each around it is: ``3_Residual/shortcut_Conv2d``."""
    parts = path.split(".") if path else []
    inner = [".".join(parts[: i + 1]) for i in range(len(parts))]
    return "/".join(f"{part}_{type(modules[name]).__name__}" for part, name in zip(parts, inner, strict=True))


def embed_validation(trainer: Trainer) -> Embedding:
    """Show the network the first validation images, and keep what its last dense layer takes; scores if it has none."""
    rows = trainer.validation_rows[:MOST_EMBEDDED]
    taken: list[Tensor] = []  # by each dense layer in turn; a head that only helps while training does not run
    dense = [layer for layer in trainer.classifier.modules() if isinstance(layer, nn.Linear)]
    hooks = [layer.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0])) for layer in dense]
    vectors, scores, labels = [], [], []
    try:
        with trainer.evaluating():
            for part in torch.split(rows, BATCH):
                taken.clear()
                scored, true = trainer.score(part)
                vectors.append(taken[-1] if taken else scored)
                scores.append(scored)
                labels.append(true)
    finally:
        for hook in hooks:
            hook.remove()
    names = trainer.description.class_names
    images, _ = trainer.feed.gather(rows)
    return Embedding(
        torch.cat(vectors).float().flatten(start_dim=1).cpu().numpy(),
        [names[int(label)] for label in torch.cat(labels)],
        [names[int(score)] for score in torch.cat(scores).argmax(dim=1)],
        images.permute(0, 2, 3, 1).cpu().numpy(),
    )
