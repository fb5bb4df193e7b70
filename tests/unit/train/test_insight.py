"""What a network looks like from inside."""

import numpy as np
import pytest
import torch
from torch import nn

from tuner.spec.hyperparameters import ARCHITECTURES, Hyperparameters
from tuner.train.data import ImageSplits
from tuner.train.insight import draw_filters, draw_sprite, embed_validation, measure_histograms, spread, trace_graph
from tuner.train.loop import Trainer
from tuner.train.models import Randomness, build_model


def build(name: str) -> nn.Module:
    """A network of a family with its defaults."""
    randomness = Randomness(torch.Generator(), torch.Generator())
    return build_model(Hyperparameters(architecture=ARCHITECTURES[name](), dropout=0.1), (32, 32, 3), 10, randomness)


def train(splits: ImageSplits, **config: object) -> Trainer:
    """A trainer after an epoch."""
    trainer = Trainer(Hyperparameters(**config), splits, max_epochs=3, seed=0)
    next(iter(trainer.epochs()))
    return trainer


def test_values_are_counted_where_they_lie() -> None:
    found = spread(torch.tensor([0.0, 0.0, 1.0, 4.0, float("nan"), float("inf")]))
    assert found is not None
    assert (found.low, found.high, found.total, found.total_of_squares) == (0.0, 4.0, 5.0, 17.0)
    assert found.counts.sum() == 4
    assert (found.counts[0], found.counts[-1], found.edges[-1]) == (2, 1, 4.0)
    assert np.searchsorted(found.edges, 1.0, side="right") == found.counts[1:-1].argmax() + 1
    assert spread(torch.tensor([float("nan")])) is None
    constant = spread(torch.full((7,), -3.0))
    assert constant is not None
    assert constant.counts.sum() == 7


def test_every_tensor_has_a_histogram_of_its_weights_and_of_its_gradient(stripes: ImageSplits) -> None:
    trainer = train(stripes, architecture=ARCHITECTURES["lenet"]())
    found = dict(measure_histograms(trainer))
    names = [name.replace(".", "/") for name, _ in trainer.classifier.network.named_parameters()]
    assert sorted(found) == sorted(f"{what}/{name}" for what in ("weights", "gradients") for name in names)
    for name, weights in trainer.classifier.network.named_parameters():
        histogram = found[f"weights/{name.replace('.', '/')}"]
        assert histogram.counts.sum() == weights.numel()
        assert histogram.total == pytest.approx(float(weights.detach().double().sum()), abs=1e-5)


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - {"hog_svm"}))
def test_each_family_has_a_graph_that_leads_from_the_image_to_the_scores(name: str) -> None:
    network = build(name)
    nodes = {node.name: node for node in trace_graph(network)}
    assert network.training
    layers = sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in network.modules())
    if name not in {"googlenet", "vit"}:  # heads that only help while training; attention holds a layer
        assert sum(node.kind in {"Conv2d", "Linear"} for node in nodes.values()) == layers
    reached, waiting = set(), ["output"]
    while waiting:
        node = nodes[waiting.pop()]
        if node.name not in reached:
            reached.add(node.name)
            waiting += node.inputs
    assert any(nodes[one].kind == "placeholder" for one in reached)
    assert len(reached) > 0.6 * len(nodes), "the rest are checks of shapes, of which attention has many"


def test_filters_are_drawn_in_colour_where_they_see_colour() -> None:
    pixels = draw_filters(build("resnet"))
    assert pixels is not None
    assert pixels.shape[-1] == 3
    assert (pixels[..., 0] != pixels[..., 1]).any()
    assert draw_filters(nn.Linear(3, 3)) is None
    layer = nn.Conv2d(1, 4, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[[[0.0, 1], [0, 0]]]]).repeat(4, 1, 1, 1))
    grid = draw_filters(nn.Sequential(layer))
    assert grid is not None
    assert grid.shape == (100, 100, 3)
    assert (grid[:24, 24:48] == 255).all()
    assert (grid[24:48, :48] == 0).all()


def test_a_filter_that_is_not_finite_is_drawn_all_the_same() -> None:
    layer = nn.Conv2d(1, 2, 2)
    with torch.no_grad():
        layer.weight.fill_(float("nan"))
    assert draw_filters(layer) is not None


@pytest.mark.parametrize("name", ["lenet", "simple_cnn", "hog_svm"])
def test_an_embedding_has_a_row_an_image_and_leaves_the_training_as_it_was(stripes: ImageSplits, name: str) -> None:
    trainer, other = (train(stripes, architecture=ARCHITECTURES[name](), dropout=0.3) for _ in range(2))
    embedding = embed_validation(trainer)
    assert len(embedding.vectors) == len(embedding.labels) == len(embedding.found) == len(stripes.validation)
    assert (embedding.images == stripes.images[stripes.validation]).all()
    assert embedding.labels == [stripes.class_names[label] for label in stripes.labels[stripes.validation]]
    right = np.mean([a == b for a, b in zip(embedding.labels, embedding.found, strict=True)])
    assert right == pytest.approx(trainer.history[0].val_accuracy)
    seen = [[result.train_loss for result in one.epochs()] for one in (trainer, other)]
    assert seen[0] == seen[1]


def test_a_sprite_is_a_square_of_squares() -> None:
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((5, 4, 4, 1), np.uint8)
    sprite = draw_sprite(images)
    assert sprite.shape == (12, 12, 3)
    assert (sprite[4:8, 4:8] == 4).all()
    assert (sprite[8:] == 0).all()
