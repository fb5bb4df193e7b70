"""The table of a network's layers."""

import pytest
import torch
from torch import Tensor, nn

from tuner.spec.hyperparameters import (
    ARCHITECTURES,
    Architecture,
    GoogLeNet,
    HogSvm,
    LeNet,
    ResNet,
    SimpleCnn,
    Vgg,
    Vit,
)
from tuner.train.models.summary import LayerSummary, summarise, summarise_architecture

SMALL = {"vit": Vit(depth=2, heads=4, width=32, patch=4)}


def rows(layers: tuple[LayerSummary, ...]) -> list[tuple[str, tuple[int, ...], int, int]]:
    return [(one.kind, one.output_shape, one.num_parameters, one.num_multiply_adds) for one in layers]


def total(layers: tuple[LayerSummary, ...], column: str) -> int:
    return sum(getattr(layer, column) for layer in layers)


def test_the_lectures_first_network() -> None:
    layers = summarise_architecture(SimpleCnn(), (32, 32, 3), 100)
    assert rows(layers) == [
        ("input", (32, 32, 3), 0, 0),
        ("Conv2d 3x3", (30, 30, 32), 896, 30 * 30 * 32 * 3 * 9),
        ("MaxPool2d 2x2 /2", (15, 15, 32), 0, 0),
        ("Conv2d 3x3", (13, 13, 32), 9248, 13 * 13 * 32 * 32 * 9),
        ("MaxPool2d 2x2 /2", (6, 6, 32), 0, 0),
        ("Conv2d 3x3", (4, 4, 32), 9248, 4 * 4 * 32 * 32 * 9),
        ("Flatten", (512,), 0, 0),
        ("Linear", (100,), 51300, 51200),
    ]
    assert total(layers, "num_parameters") == 70692
    assert [layer.name for layer in layers] == ["", "0", "1", "3", "4", "6", "8", "10"]
    assert layers[1].memory_bytes == 4 * 30 * 30 * 32
    assert layers[6].memory_bytes == 0, "the same values in another shape"


def test_vgg_16_is_the_lectures_table() -> None:
    layers = summarise_architecture(Vgg(), (224, 224, 3), 1000)
    weighted = [layer for layer in layers if layer.num_parameters]
    assert [layer.output_shape for layer in layers if layer.kind.startswith("MaxPool")] == [
        (112, 112, 64),
        (56, 56, 128),
        (28, 28, 256),
        (14, 14, 512),
        (7, 7, 512),
    ]
    # weights without biases, in thousands, rounded down to what a slide has room for
    without_biases = [layer.num_parameters - layer.output_shape[-1] for layer in weighted]
    assert without_biases == [
        *(1728, 36864, 73728, 147456, 294912, 589824, 589824),
        *(1179648, 2359296, 2359296, 2359296, 2359296, 2359296),
        *(102760448, 16777216, 4096000),
    ]
    assert total(layers, "num_parameters") == 138_357_544
    assert total(layers, "num_multiply_adds") == 15_470_264_320
    assert round(total(layers, "memory_bytes") / 1e6) == 61


@pytest.mark.parametrize("family", ARCHITECTURES)
@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 32, 3), (40, 33, 3)], ids=str)
def test_every_family_shows_all_its_parameters(family: str, shape: tuple[int, int, int]) -> None:
    architecture: Architecture = SMALL.get(family) or ARCHITECTURES[family]()
    layers = summarise_architecture(architecture, shape, 7)
    assert layers[0].output_shape == shape
    assert (7,) in {layer.output_shape for layer in layers}
    assert total(layers, "num_multiply_adds") > 0
    named = [layer.name for layer in layers]
    assert len(set(named)) >= len(named) - 1, "only the network itself and the image have no name"
    from tuner.spec.hyperparameters import Hyperparameters
    from tuner.train.models import Randomness, build_model

    with torch.device("meta"):
        randomness = Randomness(torch.Generator("cpu"), torch.Generator("cpu"))
        model = build_model(Hyperparameters(architecture=architecture), shape, 7, randomness)
    assert total(layers, "num_parameters") == sum(one.numel() for one in model.parameters())


def test_grouped_and_strided_convolutions_multiply_less() -> None:
    model = nn.Sequential(
        nn.Conv2d(8, 8, 3, padding=1, stride=2, groups=8, bias=False), nn.Conv2d(8, 4, (1, 3), groups=2)
    )
    layers = summarise(model, (6, 10, 8))
    assert rows(layers)[1:] == [
        ("Conv2d 3x3 /2 in 8 groups", (3, 5, 8), 72, 3 * 5 * 8 * 9),
        ("Conv2d 1x3 in 2 groups", (3, 3, 4), 52, 3 * 3 * 4 * 4 * 3),
    ]


def test_a_dense_layer_multiplies_at_every_place_of_a_sequence() -> None:
    model = nn.Sequential(nn.Flatten(2), nn.Linear(12, 5))
    assert rows(summarise(model, (3, 4, 2)))[1:] == [("Flatten", (2, 12), 0, 0), ("Linear", (2, 5), 65, 2 * 12 * 5)]


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_counts_its_projections_and_both_products(batch_first: bool) -> None:
    class Attend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first, kdim=4, vdim=6)

        def forward(self, images: Tensor) -> Tensor:
            queries, keys, values = images.new_zeros(1, 5, 8), images.new_zeros(1, 3, 4), images.new_zeros(1, 3, 6)
            sequences = (
                [queries, keys, values] if batch_first else [one.transpose(0, 1) for one in (queries, keys, values)]
            )
            return self.attention(sequences[0], key=sequences[1], value=sequences[2])[0]

    with torch.device("meta"):
        model = Attend()
    (_, layer) = summarise(model, (8, 8, 1))
    projections = 5 * 8 * 8 + 3 * 4 * 8 + 3 * 6 * 8 + 5 * 8 * 8
    assert layer.kind == "MultiheadAttention"
    assert layer.num_multiply_adds == projections + 2 * (5 * 3 * 8)
    assert layer.num_parameters == sum(one.numel() for one in model.parameters())


def test_shared_parameters_count_once_and_layers_that_run_twice_multiply_twice() -> None:
    layer = nn.Conv2d(2, 2, 3, padding=1)
    layers = summarise(nn.Sequential(layer, nn.ReLU(), layer), (4, 4, 2))
    assert [one.num_parameters for one in layers] == [0, 38, 0]
    assert [one.num_multiply_adds for one in layers] == [0, 576, 576]


def test_heads_that_only_help_while_training_are_counted_without_an_output() -> None:
    layers, bare = (
        summarise_architecture(GoogLeNet(auxiliary_weight=weight), (32, 32, 3), 10) for weight in (0.3, 0.0)
    )
    heads = [layer for layer in layers if not layer.output_shape]
    assert heads
    assert all(layer.num_parameters and not layer.num_multiply_adds and not layer.memory_bytes for layer in heads)
    for column in ("num_multiply_adds", "memory_bytes"):
        assert total(layers, column) == total(bare, column)
    assert total(layers, "num_parameters") == total(bare, "num_parameters") + total(tuple(heads), "num_parameters")


def test_parameters_beside_layers_have_a_row_without_memory() -> None:
    layers = summarise_architecture(Vit(depth=1, heads=2, width=8, patch=4), (8, 8, 1), 10)
    encoder = next(layer for layer in layers if layer.kind == "Encoder")
    assert encoder.num_parameters == 5 * 8, "the positions"
    assert encoder.memory_bytes == 0


def test_a_layer_without_weights_that_changes_the_shape_is_shown() -> None:
    assert summarise_architecture(HogSvm(), (32, 32, 1), 10)[1].kind == "Hog"
    assert "AdaptiveAvgPool2d" in {one.kind for one in summarise_architecture(ResNet(depth=8), (8, 8, 3), 10)}


def test_a_network_larger_than_any_memory_is_summarised() -> None:
    layers = summarise_architecture(SimpleCnn(depth=1, width=1024), (1024, 1024, 3), 1000)
    assert layers[-1].num_parameters == 1024 * 1022**2 * 1000 + 1000


def test_the_network_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 3))
    model[1].eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    before = torch.random.get_rng_state()
    summarise(model, (8, 8, 1))
    assert [module.training for module in model.modules()] == [True, True, False, True, True]
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(RuntimeError):
        summarise(model, (9, 9, 1))
    assert not any(module._forward_hooks for module in model.modules())
    assert model.training
    summarise_architecture(LeNet(), (8, 8, 1), 10)
    assert torch.equal(torch.random.get_rng_state(), before)
